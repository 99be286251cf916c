"""The simulated driver, against a real API server that runs no controllers."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from controlkit.errors import NotFound
from controlkit.kube.client import KubeClient
from controlkit.kube.objects import Key
from gpuapis.core import Node
from sandbox.aks.testing import Starter
from sandbox.controlplane import ControlPlane
from sandbox.nodes.driver import NodeDriver, NodeSpec
from sandbox.nodes.load import DriverOptions, loaded

pytestmark = pytest.mark.control_plane


@asynccontextmanager
async def simulated(
    plane: ControlPlane, *, ready_seconds: float = 0.0
) -> AsyncIterator[NodeDriver]:
    options = DriverOptions(
        kubeconfig=plane.kubeconfig,
        folder=Path("unused"),
        sandbox=Path("unused"),
        ready_seconds=ready_seconds,
        runtime_python=Path("unused"),
    )
    async with loaded("simulated", options) as driver:
        yield driver


async def read(client: KubeClient, name: str) -> dict[str, Any]:
    return await client.read(f"/api/v1/nodes/{name}")


async def until(client: KubeClient, name: str, state: Callable[[Node], bool]) -> Node:
    async with asyncio.timeout(10):
        while True:
            node = await client.get(Node, Key("", name))
            if node is not None and state(node):
                return node
            await asyncio.sleep(0.02)


async def test_a_node_registers_as_a_kubelet_on_aks_would(
    control_plane: ControlPlane, client: KubeClient, make_spec: Callable[[], NodeSpec]
) -> None:
    spec = make_spec()
    async with simulated(control_plane, ready_seconds=60) as driver:
        await driver.create(spec)
        node = await read(client, spec.name)
    assert node["spec"]["providerID"] == spec.provider_id
    assert spec.labels.items() <= node["metadata"]["labels"].items()
    taints = {
        (taint["key"], taint.get("value"), taint["effect"]) for taint in node["spec"]["taints"]
    }
    assert {("sku", "gpu", "NoSchedule"), ("dedicated", None, "NoExecute")} <= taints
    (ready,) = node["status"]["conditions"]
    assert (ready["type"], ready["status"]) == ("Ready", "False")
    assert "nvidia.com/gpu" not in node["status"]["allocatable"]
    assert node["status"]["capacity"]["cpu"] == "12"
    # No pod may land before it is Ready.
    assert ("node.kubernetes.io/not-ready", None, "NoSchedule") in taints


async def test_a_node_becomes_ready_and_loses_the_taint_that_said_otherwise(
    control_plane: ControlPlane, client: KubeClient, make_spec: Callable[[], NodeSpec]
) -> None:
    spec = make_spec()
    async with simulated(control_plane) as driver:
        await driver.create(spec)
        node = await until(
            client, spec.name, lambda node: node.ready and len(node.spec.taints) == 2
        )
    assert {taint.key for taint in node.spec.taints} == {"sku", "dedicated"}
    assert node.metadata.annotations["kwok.x-k8s.io/node"] == "fake"


async def test_gpus_show_when_they_are_advertised(
    control_plane: ControlPlane, client: KubeClient, make_spec: Callable[[], NodeSpec]
) -> None:
    spec = make_spec()
    async with simulated(control_plane) as driver:
        await driver.create(spec)
        await driver.advertise_gpu(spec)
    node = await client.get(Node, Key("", spec.name))
    assert node is not None
    assert node.allocatable("nvidia.com/gpu") == 2
    assert node.status.capacity["nvidia.com/gpu"] == "2"


async def test_creating_again_changes_nothing(
    control_plane: ControlPlane, client: KubeClient, make_spec: Callable[[], NodeSpec]
) -> None:
    spec = make_spec()
    async with simulated(control_plane) as driver:
        await driver.create(spec)
        await until(client, spec.name, lambda node: node.ready)
        await driver.advertise_gpu(spec)
        before = await client.get(Node, Key("", spec.name))
        await driver.create(spec)
    async with simulated(control_plane) as driver:  # as after a restart
        await driver.create(spec)
        await asyncio.sleep(0.1)
        after = await client.get(Node, Key("", spec.name))
    assert before is not None
    assert after is not None
    assert after.status == before.status
    assert after.spec == before.spec


async def test_a_deleted_vm_takes_its_node_along(
    control_plane: ControlPlane, client: KubeClient, make_spec: Callable[[], NodeSpec]
) -> None:
    spec = make_spec()
    async with simulated(control_plane) as driver:
        await driver.create(spec)
        await driver.delete(spec)
        await driver.delete(spec)
    with pytest.raises(NotFound):
        await read(client, spec.name)


async def test_a_finalizer_keeps_the_node_but_not_the_driver(
    control_plane: ControlPlane, client: KubeClient, make_spec: Callable[[], NodeSpec]
) -> None:
    spec = make_spec()
    async with simulated(control_plane) as driver:
        await driver.create(spec)
        await until(client, spec.name, lambda node: node.ready)
        finalizers = {"metadata": {"finalizers": ["karpenter.sh/termination"]}}
        await client.merge_patch(Node.RESOURCE, Key("", spec.name), finalizers)
        async with asyncio.timeout(5):
            await driver.delete(spec)
        node = await client.get(Node, Key("", spec.name))
        assert node is not None
        assert node.deleting
        assert not node.ready
        await client.merge_patch(
            Node.RESOURCE, Key("", spec.name), {"metadata": {"finalizers": None}}
        )


async def test_labels_and_taints_of_others_survive_the_driver(
    control_plane: ControlPlane, client: KubeClient, make_spec: Callable[[], NodeSpec]
) -> None:
    spec = make_spec()
    async with simulated(control_plane, ready_seconds=0.3) as driver:
        await driver.create(spec)
        node = await read(client, spec.name)
        taints = [*node["spec"]["taints"], {"key": "startup", "effect": "NoSchedule"}]
        patch = {"metadata": {"labels": {"mine": "yes"}}, "spec": {"taints": taints}}
        await client.merge_patch(Node.RESOURCE, Key("", spec.name), patch)
        ready = await until(
            client, spec.name, lambda node: node.ready and len(node.spec.taints) == 3
        )
    assert ready.metadata.labels["mine"] == "yes"
    assert {taint.key for taint in ready.spec.taints} == {"sku", "dedicated", "startup"}


async def test_a_pool_of_the_emulator_becomes_nodes_and_goes_again(
    control_plane: ControlPlane, client: KubeClient, start: Starter
) -> None:
    pool = "simulated"
    async with simulated(control_plane) as driver, start(driver) as bench:
        await bench.created(pool, count=3, scaleSetPriority="Spot")
        vms = await bench.settled(nodes=3, gpus=3)
        nodes = (await client.list(Node, label_selector=f"agentpool={pool}")).items
        assert {node.spec.provider_id for node in nodes} == {
            vm["spec"]["provider_id"] for vm in vms
        }
        assert all(node.allocatable("nvidia.com/gpu") == 1 for node in nodes)

        victim = vms[0]["node"]
        await bench.control.set(timings={"evictionNotice": 2500})
        await bench.control.evict(pool, node=victim, notice=True)
        evicted = await client.get(Node, Key("", victim))
        assert evicted is not None
        notice = {condition.type: condition for condition in evicted.status.conditions}
        assert notice["VMEventScheduled"].message.startswith("Preempt Scheduled")
        await bench.settled(nodes=2)

        await bench.control.set_ready(pool, ready=False)
        sick = await client.get(Node, Key("", vms[1]["node"]))
        assert sick is not None
        assert not sick.ready

        await bench.delete(pool)
        assert (await client.list(Node, label_selector=f"agentpool={pool}")).items == []


async def test_nodes_wait_for_an_api_server_that_is_down(
    control_plane: ControlPlane, client: KubeClient, start: Starter
) -> None:
    async with simulated(control_plane) as driver, start(driver) as bench:
        await control_plane.stop_apiserver()
        try:
            await bench.create("later")
            await asyncio.sleep(0.5)
            assert (await bench.get("later")).provisioning_state == "Creating"
        finally:
            await control_plane.start_apiserver()
        await bench.settled(nodes=1, gpus=1)
        (vm,) = await bench.control.nodes()
        await until(client, vm["node"], lambda node: node.ready)
