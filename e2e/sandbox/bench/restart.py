"""Restarts the workspace controller in a cluster of Ready Workspaces, and counts what it writes.

Nothing has changed, so nothing may be written: a controller that writes on its way up makes every
upgrade a storm. Measured is the time from the start of the process until it reports ready, which
is when its caches are synced, and until it has looked at every Workspace.
"""

import argparse
import asyncio
import re
import time
from dataclasses import dataclass

import httpx

from sandbox.bench.crowd import CONTROLLER, Crowd, crowd
from sandbox.bench.writes import writes
from sandbox.cluster.interrupts import run_interruptibly
from sandbox.cluster.state import Program
from sandbox.errors import SandboxError
from sandbox.processes import spawn

SYNCED_WITHIN = 15.0
QUIET_SECONDS = 5.0
QUIET_WITHIN = 120.0
LOOKED_WITHIN = 120.0
_PASSES = re.compile(r'controller_runtime_reconcile_total\{controller="workspace"[^}]*\} (\S+)')
_WAITING = re.compile(r'workqueue_depth\{name="workspace"\} (\S+)')


@dataclass(frozen=True)
class Restart:
    """Seconds from the process's start; and what was written meanwhile, by kind."""

    synced: float
    looked: float
    written: dict[str, int]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the size of the cluster."""
    parser.add_argument("--n", type=int, default=1000, help="Ready Workspaces (default 1000)")


def run(arguments: argparse.Namespace) -> int:
    """Status 1 when anything was written, or the caches took too long."""
    if arguments.n < 1:
        raise SandboxError("--n must be at least 1")
    return run_interruptibly(_measure(arguments.n))


async def _measure(total: int) -> int:
    async with crowd(total, node_seconds=0.0) as cluster:
        await cluster.apply(total)
        if not await cluster.all_ready(300 + total / 2):
            raise SandboxError("not every Workspace became Ready")
        await _quiet(cluster)
        found = await _restart(cluster, total)
    written = ", ".join(f"{number} {kind}" for kind, number in sorted(found.written.items()))
    print(f"Ready Workspaces            {total}")
    print(f"caches synced, ready after  {found.synced:.1f} s (target {SYNCED_WITHIN:g} s)")
    print(f"all looked at after         {found.looked:.1f} s")
    print(f"writes                      {written or 0} (target 0)", flush=True)
    return 0 if not found.written and found.synced <= SYNCED_WITHIN else 1


async def _quiet(cluster: Crowd) -> None:
    """Waits until what became Ready has been told to the last Event."""
    kubeconfig = cluster.folder / "kubeconfig"
    cluster.progress.say("waiting until nothing is written any more")
    deadline = time.monotonic() + QUIET_WITHIN
    before = await writes(kubeconfig)
    while time.monotonic() < deadline:
        await asyncio.sleep(QUIET_SECONDS)
        now = await writes(kubeconfig)
        if now == before:
            return
        before = now
    raise SandboxError(f"the cluster was not at rest within {QUIET_WITHIN:g} s")


async def _restart(cluster: Crowd, total: int) -> Restart:
    state, kubeconfig = cluster.state, cluster.folder / "kubeconfig"
    program = state.programs[CONTROLLER]
    before = await writes(kubeconfig)
    await program.process().stop(grace=15.0)
    began = time.monotonic()
    again = spawn(program.name, program.argv, log=program.log, env=program.env, guarded=False)
    state.programs[program.name] = Program.of(again)
    state.save(cluster.folder)
    health = f"http://{program.env['HEALTH_PROBE_BIND_ADDRESS']}"
    async with httpx.AsyncClient(trust_env=False) as client:
        while not await _answers(client, f"{health}/readyz"):
            again.ensure_alive()
            await asyncio.sleep(0.1)
        synced = time.monotonic() - began
        while await _left(client, f"{health}/metrics", total):
            if time.monotonic() - began > LOOKED_WITHIN:
                raise SandboxError(f"not every Workspace was looked at in {LOOKED_WITHIN:g} s")
            await asyncio.sleep(0.2)
        looked = time.monotonic() - began
    await asyncio.sleep(QUIET_SECONDS)
    return Restart(synced, looked, dict(await writes(kubeconfig) - before))


async def _answers(client: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(url)).is_success
    except httpx.TransportError:
        return False


async def _left(client: httpx.AsyncClient, url: str, total: int) -> bool:
    """Whether some Workspace has not been looked at yet."""
    text = (await client.get(url)).text
    passes = sum(float(number) for number in _PASSES.findall(text))
    waiting = sum(float(number) for number in _WAITING.findall(text))
    return passes < total or waiting > 0
