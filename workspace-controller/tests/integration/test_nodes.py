"""Which nodes a Workspace gets, keeps and gives back, whatever else happens at the same time."""

import asyncio
from typing import Any

import pytest
from workspace_world import Bench, ControllerProcess

from controlkit.errors import NotFound
from controlkit.kube.objects import Key
from gpuapis import labels
from gpuapis.core import Node, Pod
from gpuapis.machine import Machine
from gpuapis.nodeclaim import NodeClaim
from gpuapis.workspace import Workspace
from sandbox.controlplane import ControlPlane

pytestmark = pytest.mark.control_plane


async def test_many_workspaces_that_want_the_same_few_nodes_at_once_share_none(
    controller_process: ControllerProcess, bench: Bench
) -> None:
    controller_process.start(CLAIM_API="byo", WORKERS="10")
    mine = [f"mine-{number}" for number in range(4)]
    selector = {"labelSelector": {"matchLabels": {"apps": "race"}}, "preferredNodes": mine[:1]}
    keys = [bench.key(f"race-{number}") for number in range(12)]
    async with asyncio.TaskGroup() as group:
        for key in keys:
            group.create_task(bench.create(key.name, resource=selector))
        for name in mine:
            group.create_task(bench.make_node(name, {"apps": "race"}))

    async def served() -> list[Key]:
        found = [await bench.workspace(key) for key in keys]
        return [each.key for each in found if each.status.worker_nodes]

    async def all_nodes_are_used() -> bool:
        return len(await served()) == len(mine)

    await bench.eventually(all_nodes_are_used, "four of twelve Workspaces have a node")
    assert await nodes_by_user(bench, keys) == mine
    holders = await holders_of(bench, mine)
    assert len(set(holders)) == len(mine)

    # What one gives back goes to exactly one of those who wait, while others come and go.
    async with asyncio.TaskGroup() as group:
        for key in (await served())[:2]:
            group.create_task(bench.delete(key))
        group.create_task(bench.create("late", resource=selector))

    async def used_again() -> bool:
        found = [await bench.client.get(Workspace, key) for key in [*keys, bench.key("late")]]
        living = [each for each in found if each is not None and not each.deleting]
        return sum(bool(each.status.worker_nodes) for each in living) == len(mine)

    await bench.eventually(used_again, "the nodes that were given back are in use again")
    assert len(set(await holders_of(bench, mine))) == len(mine)
    assert bench.world.made == []


async def nodes_by_user(bench: Bench, keys: list[Key]) -> list[str]:
    """The nodes in use, once for each Workspace that uses them, sorted."""
    used = [(await bench.workspace(key)).status.worker_nodes for key in keys]
    return sorted(node for nodes in used for node in nodes)


async def holders_of(bench: Bench, names: list[str]) -> list[str]:
    found = [await bench.read(Node, Key("", name)) for name in names]
    return [each.metadata.labels[labels.RESERVED_FOR] for each in found]


async def test_a_node_may_match_any_value_of_an_expression_and_a_new_one_gets_the_first(
    controller: ControllerProcess, bench: Bench
) -> None:
    controller.start()
    await bench.make_node("blue-node", {"colour": "blue"})
    await bench.make_node("green-node", {"colour": "green"})
    either = [{"key": "colour", "operator": "In", "values": ["red", "blue"]}]
    resource = {
        "count": 2,
        "instanceType": "Standard_NC6s_v3",
        "labelSelector": {"matchExpressions": either},
    }
    key = await bench.create("colourful", resource=resource)
    await bench.condition(key, "WorkspaceReady", "True")
    (claim,) = await bench.claims(key)
    assert claim.metadata.labels["colour"] == "red"
    nodes = (await bench.workspace(key)).status.worker_nodes
    assert nodes == ("blue-node", f"node-{claim.key.name}")


async def test_of_two_machines_the_one_that_serves_nothing_leaves(
    controller: ControllerProcess, bench: Bench
) -> None:
    controller.start()
    resource = {
        "count": 2,
        "instanceType": "Standard_NC6s_v3",
        "labelSelector": {"matchLabels": {"apps": "shrink"}},
    }
    key = await bench.create("shrink", resource=resource)
    await bench.condition(key, "WorkspaceReady", "True")
    claims = {each.metadata.labels[labels.SLOT]: each for each in await bench.claims(key)}
    # The Deployment's controller keeps a pod of its own choice: here that of the newer node.
    await pod_on(bench, key, f"node-{claims['1'].key.name}")
    await bench.client.merge_patch(Workspace.RESOURCE, key, {"resource": {"count": 1}})

    async def one_left() -> bool:
        left = [each.key for each in await bench.claims(key) if not each.deleting]
        return left == [claims["1"].key]

    await bench.eventually(one_left, "the idle node is given up")
    await bench.condition(key, "WorkspaceReady", "True")

    await bench.client.merge_patch(Workspace.RESOURCE, key, {"resource": {"count": 2}})

    async def two_again() -> bool:
        return len((await bench.workspace(key)).status.worker_nodes) == 2

    await bench.eventually(two_again, "there are two nodes again")
    assert len(await bench.claims(key)) == 2


async def pod_on(bench: Bench, key: Key, node: str) -> None:
    manifest: dict[str, Any] = {
        "metadata": {
            "name": f"{key.name}-pod",
            "namespace": key.namespace,
            "labels": {labels.WORKSPACE: key.name},
        },
        "spec": {
            "containers": [{"name": "model", "image": "example.com/x"}],
            "nodeName": node,
            "tolerations": [{"operator": "Exists"}],
        },
    }
    await bench.client.create(Pod.RESOURCE, manifest)


async def test_claims_of_the_other_kind_keep_counting_and_go_with_the_workspace(
    controller_process: ControllerProcess, bench: Bench
) -> None:
    controller_process.start(CLAIM_API="machine")
    resource = {
        "count": 2,
        "instanceType": "Standard_NC6s_v3",
        "labelSelector": {"matchLabels": {"apps": "swap"}},
    }
    key = await bench.create("swap", resource=resource)
    await bench.condition(key, "WorkspaceReady", "True")
    machines = {each.key for each in await bench.claims(key)}

    controller_process.start(CLAIM_API="nodeclaim")
    await bench.pause(1.0)
    assert {each.key for each in await bench.claims(key)} == machines, "nothing is doubled"
    await bench.condition(key, "WorkspaceReady", "True")

    lost = min(machines)
    await bench.client.delete(Machine.RESOURCE, lost)

    async def mixed() -> bool:
        live = [each for each in await bench.claims(key) if not each.deleting]
        return sorted(type(each).__name__ for each in live) == ["Machine", "NodeClaim"]

    await bench.eventually(mixed, "what is lost is replaced by the kind that is asked for now")
    await bench.condition(key, "WorkspaceReady", "True")
    assert len(bench.world.made) == 3

    controller_process.start(CLAIM_API="byo")
    await bench.pause(0.5)
    assert len(await bench.claims(key)) == 2
    await bench.delete(key)
    await bench.gone(key)
    assert await bench.claims(key) == []


async def test_a_kind_that_is_not_served_any_more_holds_up_no_deletion(
    controller_process: ControllerProcess, bench: Bench, control_plane: ControlPlane
) -> None:
    controller_process.start(CLAIM_API="machine")
    key = await bench.create("unserved")
    await bench.condition(key, "WorkspaceReady", "True")
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    definition = await control_plane.admin.call("GET", f"{path}/nodeclaims.karpenter.sh")
    await control_plane.admin.call("DELETE", f"{path}/nodeclaims.karpenter.sh")
    try:
        await bench.eventually(lambda: served(bench, want=False), "NodeClaims are not served")
        await bench.delete(key)
        await bench.gone(key)
        assert (await bench.client.list(Machine)).items == []
    finally:
        fresh = {name: definition["metadata"][name] for name in ("name", "annotations")}
        again = definition | {"metadata": fresh, "status": None}
        await control_plane.admin.call("POST", path, again)
        await bench.eventually(lambda: served(bench, want=True), "NodeClaims are served again")


async def served(bench: Bench, *, want: bool) -> bool:
    """Whether NodeClaims are served, or are not, as wanted."""
    try:
        await bench.client.list(NodeClaim)
    except NotFound:
        return not want
    return want
