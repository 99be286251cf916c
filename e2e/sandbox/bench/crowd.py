"""A sandbox made for one benchmark, with Workspaces by number and claims that get their nodes.

Invariant: the sandbox is removed whatever happens; its logs are kept if the benchmark failed.
"""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
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
from sandbox.bench.fulfiller import AnyClaim, Claims, Fulfiller, everything
from sandbox.bench.readings import Readings
from sandbox.cluster.down import bring_down
from sandbox.cluster.progress import Progress
from sandbox.cluster.state import Settings, State
from sandbox.cluster.up import bring_up
from sandbox.errors import SandboxError

CONTROLLER = "workspace-controller"
NAMESPACE = "default"
APPLIED_AT_ONCE = 50
YOUNG_CRD_SECONDS = 3.0
"""The API server holds every create of a kind back that it has served for less than 2 s."""

ClaimApi = Literal["machine", "nodeclaim"]


@dataclass
class Crowd:
    """The cluster under test, as seen by its own watches."""

    client: KubeClient
    folder: Path
    progress: Progress
    readings: Readings
    workspaces: Cache[Workspace]
    claims: Claims
    failed: bool = False
    """The benchmark did not come to its end: the logs are worth keeping."""

    @property
    def state(self) -> State:
        """What runs in the sandbox now."""
        state = State.load(self.folder)
        assert state is not None
        return state

    @property
    def controller(self) -> int:
        """The process id of the workspace controller."""
        return self.state.programs[CONTROLLER].pid

    async def apply(self, total: int, stem: str = "storm") -> float:
        """Applies Workspaces, all at once, and returns the seconds that took."""
        gate = asyncio.Semaphore(APPLIED_AT_ONCE)

        async def create(number: int) -> None:
            async with gate:
                await self.client.create(Workspace.RESOURCE, workspace(number, stem))

        self.progress.say(f"applying {total} Workspaces")
        self.readings.start()
        async with asyncio.TaskGroup() as group:
            for number in range(total):
                group.create_task(create(number))
        return asyncio.get_running_loop().time() - self.readings.started

    async def all_ready(self, patience: float) -> bool:
        """Waits until every Workspace is Ready; False when that takes too long."""
        readings, loop = self.readings, asyncio.get_running_loop()
        deadline = loop.time() + patience
        while not readings.done.is_set() and (left := deadline - loop.time()) > 0:
            try:
                async with asyncio.timeout(min(10.0, left)):
                    await readings.done.wait()
            except TimeoutError:
                reached = readings.reached
                self.progress.say(
                    f"{len(readings.claims)} claims, {len(reached['ResourceReady'])} with nodes,"
                    f" {len(reached['WorkspaceReady'])} Ready, of {readings.total}"
                )
        self.failed = not readings.done.is_set()
        return not self.failed


@asynccontextmanager
async def crowd(
    total: int,
    *,
    node_seconds: float,
    claim_api: ClaimApi = "machine",
    serves: Callable[[AnyClaim], bool] = everything,
) -> AsyncIterator[Crowd]:
    """A cluster in which claims get a Ready GPU node that many seconds after they appear.

    Args:
        total: Workspaces that count as all.
        node_seconds: from a claim's appearance to its node.
        claim_api: what the controller asks for.
        serves: which claims get a node.

    Raises:
        SandboxError: the API server let the benchmark down.
    """
    progress = Progress()
    configure_log("error")
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    settings = Settings(without=("gpu-provisioner",), claim_api=claim_api)
    keep = True
    try:
        await bring_up(folder, settings, progress)
        async with await KubeClient.connect(
            user_agent="bench", field_manager="bench", kubeconfig=folder / "kubeconfig"
        ) as client:
            claims: Claims = Cache(Machine) if claim_api == "machine" else Cache(NodeClaim)
            made = Crowd(client, folder, progress, Readings(total), Cache(Workspace), claims)
            fulfiller = Fulfiller(client, node_seconds, serves)
            async with _watched(made, fulfiller):
                yield made
        keep = made.failed
    except* ControlError as group:
        raise SandboxError(f"the API server let us down: {group.exceptions[0]}") from group
    finally:
        await bring_down(folder, progress.say)
        if keep:
            progress.say(f"the logs are in {folder / 'log'}")
        else:
            shutil.rmtree(folder)


@asynccontextmanager
async def _watched(made: Crowd, fulfiller: Fulfiller) -> AsyncIterator[None]:
    made.readings.follow(made.workspaces, made.claims)
    fulfiller.follow(made.claims)
    async with asyncio.TaskGroup() as group:
        watching = [
            group.create_task(Reflector(made.client, made.workspaces).run()),
            group.create_task(_reflector(made.client, made.claims)),
            group.create_task(fulfiller.run()),
        ]
        await made.workspaces.synced.wait()
        await made.claims.synced.wait()
        await asyncio.sleep(YOUNG_CRD_SECONDS)
        yield
        for task in watching:
            task.cancel()


def _reflector(client: KubeClient, claims: Claims) -> Coroutine[Any, Any, None]:
    if claims.view is Machine:
        return Reflector(client, claims).run()
    return Reflector(client, cast("Cache[NodeClaim]", claims)).run()


def workspace(number: int, stem: str = "storm") -> dict[str, Any]:
    """One Workspace of a crowd: a small preset on one GPU."""
    name = f"{stem}-{number:04}"
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
