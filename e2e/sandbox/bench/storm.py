"""Applies many Workspaces at once and measures how the workspace controller takes it.

Runs in a sandbox of its own at level 1 (real control plane, kwok for nodes and pods, the charts'
RBAC and webhook), made for it and removed again. Each claim gets a Ready GPU node a fixed time
after it appears, so that time is the floor of all that follows. Figures count from just before
the first Workspace is applied, as a watch of the API server shows them.
"""

import argparse
import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from controlkit.cache import Cache
from controlkit.errors import ControlError
from controlkit.kube.client import KubeClient
from controlkit.kube.reflector import Reflector
from controlkit.log import configure as configure_log
from gpuapis.machine import Machine
from gpuapis.nodeclaim import NodeClaim
from gpuapis.workspace import Workspace
from sandbox.bench.fulfiller import Claims, Fulfiller
from sandbox.bench.readings import Cost, Readings, report
from sandbox.cluster.down import bring_down
from sandbox.cluster.interrupts import run_interruptibly
from sandbox.cluster.progress import Progress
from sandbox.cluster.state import Settings, State
from sandbox.cluster.up import bring_up
from sandbox.errors import SandboxError

CONTROLLER = "workspace-controller"
NAMESPACE = "default"
APPLIED_AT_ONCE = 50
YOUNG_CRD_SECONDS = 3.0
"""The API server holds every create of a kind back that it has served for less than 2 s."""


@dataclass(frozen=True)
class Storm:
    """What is to be measured; times in seconds."""

    total: int
    node_seconds: float
    claim_api: Literal["machine", "nodeclaim"]
    patience: float


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the storm's size and its floor."""
    parser.add_argument("--n", type=int, default=100, help="Workspaces (default 100)")
    parser.add_argument(
        "--node-seconds", type=float, default=30.0, help="claim to Ready node (default 30)"
    )
    parser.add_argument("--claim-api", choices=("machine", "nodeclaim"), default="machine")
    parser.add_argument(
        "--patience", type=float, help="give up after this many seconds (default 300 + N/2)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs the storm; status 1 when not every Workspace became Ready."""
    if arguments.n < 1 or arguments.node_seconds < 0:
        raise SandboxError("--n must be at least 1 and --node-seconds at least 0")
    patience = arguments.patience or 300 + arguments.n / 2
    storm = Storm(arguments.n, arguments.node_seconds, arguments.claim_api, patience)
    return run_interruptibly(_storm(storm))


async def _storm(storm: Storm) -> int:
    progress = Progress()
    configure_log("error")
    folder = Path(tempfile.mkdtemp(prefix="storm-"))
    settings = Settings(without=("gpu-provisioner",), claim_api=storm.claim_api)
    try:
        await bring_up(folder, settings, progress)
        all_ready = await _measure(storm, folder, progress)
    except* ControlError as group:
        raise SandboxError(f"the API server let the storm down: {group.exceptions[0]}") from group
    finally:
        await bring_down(folder, progress.say)
    if all_ready:
        shutil.rmtree(folder)
        return 0
    progress.say(f"not every Workspace became Ready; the logs are in {folder / 'log'}")
    return 1


async def _measure(storm: Storm, folder: Path, progress: Progress) -> bool:
    state = State.load(folder)
    assert state is not None
    controller = state.programs[CONTROLLER].pid
    async with await KubeClient.connect(
        user_agent="bench-storm", field_manager="bench-storm", kubeconfig=folder / "kubeconfig"
    ) as client:
        readings, fulfiller = Readings(storm.total), Fulfiller(client, storm.node_seconds)
        workspaces = Cache(Workspace)
        claims: Claims = Cache(Machine) if storm.claim_api == "machine" else Cache(NodeClaim)
        readings.follow(workspaces, claims)
        fulfiller.follow(claims)
        async with asyncio.TaskGroup() as group:
            watching = [
                group.create_task(Reflector(client, workspaces).run()),
                group.create_task(_reflector(client, claims)),
                group.create_task(fulfiller.run()),
            ]
            await workspaces.synced.wait()
            await claims.synced.wait()
            await asyncio.sleep(YOUNG_CRD_SECONDS)
            before = Cost.of(controller)
            applied = await _apply(client, readings, storm.total, progress)
            await _await_all(readings, storm.patience, progress)
            after = Cost.of(controller)
            for task in watching:
                task.cancel()
    progress.say(f"{storm.total} Workspaces, a node {storm.node_seconds:g} s after its claim\n")
    print(report(readings, applied, before, after) + "\n", flush=True)
    return readings.done.is_set()


def _reflector(client: KubeClient, claims: Claims) -> Coroutine[Any, Any, None]:
    if claims.view is Machine:
        return Reflector(client, claims).run()
    return Reflector(client, cast("Cache[NodeClaim]", claims)).run()


async def _apply(client: KubeClient, readings: Readings, total: int, progress: Progress) -> float:
    """Applies all Workspaces and returns the seconds that took."""
    gate = asyncio.Semaphore(APPLIED_AT_ONCE)

    async def create(number: int) -> None:
        async with gate:
            await client.create(Workspace.RESOURCE, workspace(number))

    progress.say(f"applying {total} Workspaces")
    readings.start()
    async with asyncio.TaskGroup() as group:
        for number in range(total):
            group.create_task(create(number))
    return asyncio.get_running_loop().time() - readings.started


async def _await_all(readings: Readings, patience: float, progress: Progress) -> None:
    deadline = asyncio.get_running_loop().time() + patience
    while not readings.done.is_set() and (left := deadline - asyncio.get_running_loop().time()) > 0:
        try:
            async with asyncio.timeout(min(10.0, left)):
                await readings.done.wait()
        except TimeoutError:
            reached = readings.reached
            progress.say(
                f"{len(readings.claims)} claims, {len(reached['ResourceReady'])} with nodes,"
                f" {len(reached['WorkspaceReady'])} Ready, of {readings.total}"
            )


def workspace(number: int) -> dict[str, Any]:
    """One Workspace of the storm: a small preset on one GPU."""
    name = f"storm-{number:04}"
    return {
        "apiVersion": Workspace.RESOURCE.api_version,
        "kind": Workspace.RESOURCE.kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "resource": {
            "instanceType": "Standard_NC24ads_A100_v4",
            "labelSelector": {"matchLabels": {"apps": name}},
        },
        "inference": {"preset": {"name": "phi-3-mini-128k-instruct"}},
    }
