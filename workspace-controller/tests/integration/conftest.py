"""A real API server, the chart's objects in it, and the controller as a process."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest
from workspace_world import Bench, ControllerProcess, World
from workspace_world.process import install

from controlkit.errors import NotFound
from controlkit.kube.client import KubeClient
from controlkit_testing import eventually
from gpuapis.core import Node
from gpuapis.machine import Machine
from gpuapis.nodeclaim import NodeClaim
from gpuapis.workspace import Workspace
from sandbox.controlplane import ControlPlane
from sandbox.controlplane.crds import apply_crds as apply
from sandbox.pytest_plugin import own_plane


@pytest.fixture(scope="session")
def control_plane(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ControlPlane]:
    """One of our own: the controller would serve the Workspaces that other suites leave behind.

    A provisioner that another suite runs would likewise take our claims for its own.
    """
    with own_plane(request.config, tmp_path_factory) as plane:
        yield plane


@pytest.fixture(scope="session")
def apply_crds(control_plane: ControlPlane) -> list[str]:
    """Makes our control plane serve the CRDs of both charts; returns their names."""
    return asyncio.run(apply(control_plane.admin))


@pytest.fixture(scope="session")
def controller_process(
    control_plane: ControlPlane, apply_crds: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ControllerProcess]:
    """The chart installed, and the controller ready to be started under its ServiceAccount."""
    folder = tmp_path_factory.mktemp("workspace-controller")
    process = install(control_plane, folder, crds=False)
    yield process
    process.stop()


@pytest.fixture
def controller(controller_process: ControllerProcess) -> ControllerProcess:
    """The controller, running as the chart would run it, whatever the test before did to it."""
    if controller_process.process is None or controller_process.changed:
        controller_process.start()
    return controller_process


@pytest.fixture
async def bench(control_plane: ControlPlane, namespace: str) -> AsyncIterator[Bench]:
    """A namespace of one's own and a world that serves it; all Workspaces are gone at the end."""
    client = await KubeClient.connect(
        user_agent="test", field_manager="test", kubeconfig=control_plane.kubeconfig
    )
    async with client, asyncio.TaskGroup() as group:
        world = World(client)
        group.create_task(world.run())
        yield Bench(client, world, namespace)
        world.release, world.collect, world.failure = True, True, None
        await _clean(client, namespace)
        world.over = True


async def _clean(client: KubeClient, namespace: str) -> None:
    """Leaves nothing to the next test, whether or not a controller runs."""
    for found in (await client.list(Workspace, namespace=namespace)).items:
        await client.delete(Workspace.RESOURCE, found.key)
        with contextlib.suppress(NotFound):
            patch = {"metadata": {"finalizers": None}}
            await client.merge_patch(Workspace.RESOURCE, found.key, patch)
    for view in (Machine, NodeClaim):
        for claim in (await client.list(view)).items:
            await client.delete(view.RESOURCE, claim.key)

    async def look() -> bool:
        left = [(await client.list(view)).items for view in (Machine, NodeClaim)]
        return not any(left)

    await eventually(look, "all claims of the test are gone")
    for node in (await client.list(Node)).items:
        await client.delete(Node.RESOURCE, node.key)
