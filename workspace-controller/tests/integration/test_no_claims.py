"""A cluster that serves no kind of claim at all: it is said, own nodes serve, and deletion ends."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from workspace_world import Bench, ControllerProcess, World
from workspace_world.process import install

from controlkit.kube.client import KubeClient
from controlkit.kube.objects import Key
from gpuapis import labels
from gpuapis.core import Deployment, Node
from gpuapis.machine import Machine
from gpuapis.nodeclaim import NodeClaim
from sandbox.controlplane import ControlPlane
from sandbox.pytest_plugin import own_plane

pytestmark = pytest.mark.control_plane


@pytest.fixture(scope="module")
def bare_plane(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ControlPlane]:
    """One that knows nothing of Karpenter's kinds."""
    with own_plane(request.config, tmp_path_factory) as plane:
        yield plane


@pytest.fixture(scope="module")
def process(
    bare_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ControllerProcess]:
    found = install(bare_plane, tmp_path_factory.mktemp("workspace-controller"), crds=True)
    yield found
    found.stop()


@pytest.fixture
async def bare(bare_plane: ControlPlane) -> AsyncIterator[Bench]:
    client = await KubeClient.connect(
        user_agent="test", field_manager="test", kubeconfig=bare_plane.kubeconfig
    )
    async with client, asyncio.TaskGroup() as group:
        world = World(client)
        group.create_task(world.run())
        yield Bench(client, world, "default")
        world.over = True


async def test_without_claims_it_is_said_and_the_workspace_can_be_deleted(
    process: ControllerProcess, bare: Bench
) -> None:
    assert not await bare.client.serves(Machine.RESOURCE)
    assert not await bare.client.serves(NodeClaim.RESOURCE)
    process.start()
    key = await bare.create("stranded")
    found = await bare.condition(key, "ResourceReady", "False", "ClaimApiNotServed")
    assert "nodeProvisioner.claimApi=byo" in found.message
    await bare.delete(key)
    await bare.gone(key)


async def test_own_nodes_serve_without_claims_and_are_given_back(
    process: ControllerProcess, bare: Bench
) -> None:
    process.start(CLAIM_API="byo")
    await bare.make_node("own", {"apps": "mine"})
    selector = {"labelSelector": {"matchLabels": {"apps": "mine"}}}
    key = await bare.create("mine", resource=selector)
    await bare.condition(key, "WorkspaceReady", "True")
    assert (await bare.workspace(key)).status.worker_nodes == ("own",)

    await bare.delete(key)
    await bare.gone(key)
    node = await bare.read(Node, Key("", "own"))
    assert labels.RESERVED_FOR not in node.metadata.labels
    assert not await bare.exists(Deployment, key)
