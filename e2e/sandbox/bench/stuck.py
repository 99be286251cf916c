"""Measures how much Workspaces that are stuck delay others.

Stuck are twice as many Workspaces as the controller has workers: of one half the claims get no
node, of the other half the claims do not go although their Workspaces are being deleted. Others
are then applied one after another; each should take as long as it took in an idle cluster.
"""

import argparse
import asyncio
import statistics
from typing import Final

from controlkit.kube.objects import Key
from gpuapis import labels
from gpuapis.machine import Machine
from gpuapis.workspace import Workspace
from sandbox.bench.crowd import NAMESPACE, Crowd, crowd, workspace
from sandbox.bench.fulfiller import AnyClaim
from sandbox.cluster.interrupts import run_interruptibly
from sandbox.errors import SandboxError

MOST_DELAY: Final = 1.0
PATIENCE: Final = 60.0
SETTLE_SECONDS: Final = 3.0
STUCK: Final = "stuck"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares how many are stuck, and how many are measured."""
    parser.add_argument("--stuck", type=int, default=20, help="stuck Workspaces (default 20)")
    parser.add_argument("--others", type=int, default=5, help="measured ones (default 5)")


def run(arguments: argparse.Namespace) -> int:
    """Status 1 when the others were delayed by a second or more."""
    if arguments.stuck < 1 or arguments.others < 1:
        raise SandboxError("--stuck and --others must be at least 1")
    return run_interruptibly(_measure(arguments.stuck, arguments.others))


async def _measure(stuck: int, others: int) -> int:
    async with crowd(stuck, node_seconds=0.0, serves=_is_served) as cluster:
        idle = [await _one(cluster, f"idle-{number}") for number in range(others)]
        cluster.progress.say(f"{stuck} Workspaces get stuck")
        await cluster.apply(stuck, STUCK)
        await _hold_back_half(cluster, stuck)
        await asyncio.sleep(SETTLE_SECONDS)
        beside = [await _one(cluster, f"beside-{number}") for number in range(others)]
        await _let_go(cluster)
    print(f"stuck Workspaces              {stuck}")
    delays = []
    for step, (what, _) in enumerate(_STEPS):
        without = statistics.median(each[step] for each in idle)
        worst = max(each[step] for each in beside)
        delays.append(max(0.0, worst - without))
        print(f"{what:<28}  {without:.2f} s alone (median), {worst:.2f} s beside them (slowest)")
    print(f"delayed by                    {max(delays):.2f} s (target under {MOST_DELAY:g} s)")
    return 0 if max(delays) < MOST_DELAY else 1


def _is_served(claim: AnyClaim) -> bool:
    return not claim.metadata.labels[labels.WORKSPACE].startswith(STUCK)


_STEPS: Final = (("applied to claim", "MachineReady"), ("applied to Ready", "WorkspaceReady"))


async def _one(cluster: Crowd, stem: str) -> tuple[float, float]:
    """Applies one Workspace; the seconds until its claim was there and until it was Ready."""
    manifest = workspace(0, stem)
    key = Key(NAMESPACE, manifest["metadata"]["name"])
    loop = asyncio.get_running_loop()
    claimed, ready = asyncio.Event(), asyncio.Event()
    moments = [0.0, 0.0]

    def on_claim(_: AnyClaim | None, new: AnyClaim | None) -> None:
        if new is not None and new.metadata.labels[labels.WORKSPACE] == key.name:
            moments[0] = moments[0] or loop.time()
            claimed.set()

    def on_workspace(_: Workspace | None, new: Workspace | None) -> None:
        if new is not None and new.key == key and new.status.state == "Ready":
            moments[1] = moments[1] or loop.time()
            ready.set()

    cluster.claims.subscribe(on_claim)
    cluster.workspaces.subscribe(on_workspace)
    began = loop.time()
    await cluster.client.create(Workspace.RESOURCE, manifest)
    try:
        async with asyncio.timeout(PATIENCE):
            await claimed.wait()
            await ready.wait()
    except TimeoutError:
        raise SandboxError(f"{key} was not Ready within {PATIENCE:g} s") from None
    return moments[0] - began, moments[1] - began


async def _hold_back_half(cluster: Crowd, stuck: int) -> None:
    """Deletes every second stuck Workspace, whose claim is then held by a finalizer."""
    held = {"metadata": {"finalizers": [labels.TERMINATION_FINALIZER]}}
    for number, claim in enumerate(await _unserved(cluster, stuck)):
        if number % 2:
            continue
        await cluster.client.merge_patch(Machine.RESOURCE, claim.key, held)
        key = Key(NAMESPACE, claim.metadata.labels[labels.WORKSPACE])
        await cluster.client.delete(Workspace.RESOURCE, key)


async def _unserved(cluster: Crowd, number: int) -> list[AnyClaim]:
    """The claims that get no node, once there are that many."""
    found: dict[Key, AnyClaim] = {}
    complete = asyncio.Event()

    def on_claim(_: AnyClaim | None, new: AnyClaim | None) -> None:
        if new is not None and not _is_served(new):
            found[new.key] = new
        if len(found) == number:
            complete.set()

    cluster.claims.subscribe(on_claim)
    try:
        async with asyncio.timeout(PATIENCE):
            await complete.wait()
    except TimeoutError:
        raise SandboxError("the stuck Workspaces got no claims") from None
    return list(found.values())


async def _let_go(cluster: Crowd) -> None:
    for claim in cluster.claims.all():
        if claim.deleting:
            patch = {"metadata": {"finalizers": None}}
            await cluster.client.merge_patch(Machine.RESOURCE, claim.key, patch)
