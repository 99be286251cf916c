"""One Workspace's life against a real API server, from creation to the end."""

from typing import Any

import pytest
from workspace_world import Bench, ControllerProcess

from controlkit.kube.objects import Key
from gpuapis import labels
from gpuapis.core import Deployment, Node, Service
from gpuapis.machine import Machine
from gpuapis.nodeclaim import NodeClaim
from gpuapis.workspace import Workspace

pytestmark = pytest.mark.control_plane


async def test_a_workspace_becomes_a_served_model_and_ends_without_a_trace(
    controller: ControllerProcess, bench: Bench
) -> None:
    key = await bench.create("phi")
    await bench.condition(key, "WorkspaceReady", "True")

    workspace = await bench.workspace(key)
    (claim,) = await bench.claims(key)
    node = await bench.read(Node, Key("", f"node-{claim.key.name}"))
    assert workspace.status.worker_nodes == (node.key.name,)
    assert workspace.status.state == "Ready"
    assert workspace.status.instance_type == "Standard_NC6s_v3"
    assert {c.type: c.status for c in workspace.status.conditions} == {
        "MachineReady": "True",
        "ResourceReady": "True",
        "InferenceReady": "True",
        "WorkspaceReady": "True",
        "WorkspaceSucceeded": "True",
    }
    assert all(c.observed_generation == 1 for c in workspace.status.conditions)
    assert {"claim", "launch", "join", "gpu", "ready"} <= {p.name for p in workspace.status.phases}
    assert isinstance(claim, Machine)
    assert claim.metadata.labels[labels.SLOT] == "0"
    assert node.metadata.labels[labels.ACCELERATOR] == "nvidia"
    assert await bench.exists(Deployment, key)
    assert await bench.exists(Service, key)

    await bench.delete(key)
    await bench.gone(key)
    assert await bench.claims(key) == []
    assert not await bench.exists(Node, node.key)
    assert not await bench.exists(Deployment, key)


async def test_two_slots_are_claimed_at_once_and_scaling_down_removes_the_surplus(
    controller: ControllerProcess, bench: Bench
) -> None:
    bench.world.stop_at = "asked"
    key = await bench.create(
        "two",
        resource={
            "count": 2,
            "instanceType": "Standard_NC6s_v3",
            "labelSelector": {"matchLabels": {"apps": "two"}},
        },
    )

    async def both() -> bool:
        return len(await bench.claims(key)) == 2

    await bench.eventually(both, "two claims")
    bench.world.stop_at = "ready"
    await bench.condition(key, "WorkspaceReady", "True")
    assert len((await bench.workspace(key)).status.worker_nodes) == 2

    patch = {"resource": {"count": 1}}
    await bench.client.merge_patch(Workspace.RESOURCE, key, patch)

    async def one_left() -> bool:
        left = [each for each in await bench.claims(key) if not each.deleting]
        return len(left) == 1 and left[0].metadata.labels[labels.SLOT] == "0"

    await bench.eventually(one_left, "the claim of slot 1 is gone")
    await bench.condition(key, "WorkspaceReady", "True")
    assert len(bench.world.made) == 2
    assert (await bench.read(Deployment, key)).spec.replicas == 1


async def test_a_template_is_served_and_an_edit_of_it_rolls_out(
    controller: ControllerProcess, bench: Bench
) -> None:
    def template(image: str) -> dict[str, Any]:
        containers = [{"name": "own", "image": image, "ports": [{"containerPort": 8000}]}]
        return {"template": {"spec": {"containers": containers}}}

    key = await bench.create("own", inference=template("example.com/one:1"))
    await bench.condition(key, "WorkspaceReady", "True")
    before = await bench.read(Deployment, key)

    patch = {"inference": template("example.com/two:2")}
    await bench.client.merge_patch(Workspace.RESOURCE, key, patch)

    async def rolled_out() -> bool:
        found = await bench.client.read(Deployment.RESOURCE.path(*key))
        image: str = found["spec"]["template"]["spec"]["containers"][0]["image"]
        return image == "example.com/two:2"

    await bench.eventually(rolled_out, "the new image")
    after = await bench.read(Deployment, key)
    assert after.metadata.uid == before.metadata.uid
    await bench.condition(key, "WorkspaceReady", "True")


async def test_without_a_size_the_cheapest_that_fits_is_chosen_and_recorded(
    controller: ControllerProcess, bench: Bench
) -> None:
    selector = {"labelSelector": {"matchLabels": {"apps": "free"}}}
    key = await bench.create("free", resource=selector)
    await bench.condition(key, "MachineReady", "True")

    assert (await bench.workspace(key)).status.instance_type == "Standard_NC4as_T4_v3"
    (claim,) = await bench.claims(key)
    sizes = [r.values for r in claim.spec.requirements if r.key == labels.INSTANCE_TYPE]
    assert sizes == [("Standard_NC4as_T4_v3",)]


async def test_nodeclaims_serve_as_well(
    controller_process: ControllerProcess, bench: Bench
) -> None:
    controller_process.start(CLAIM_API="nodeclaim")
    key = await bench.create("claims")
    await bench.condition(key, "WorkspaceReady", "True")

    (claim,) = await bench.claims(key)
    assert isinstance(claim, NodeClaim)
    assert claim.spec.expire_after == "Never"
    await bench.condition(key, "NodeClaimReady", "True", "NodeClaimsReady")
    await bench.delete(key)
    await bench.gone(key)


async def test_own_nodes_are_reserved_one_for_each_workspace_and_given_back(
    controller_process: ControllerProcess, bench: Bench
) -> None:
    controller_process.start(CLAIM_API="byo")
    for name in ("own-1", "own-2"):
        await bench.make_node(name, {"apps": "mine"})
    await bench.make_node("own-cpu", {"apps": "mine"}, gpus=0)
    selector = {"labelSelector": {"matchLabels": {"apps": "mine"}}}
    keys = [await bench.create(f"byo-{number}", resource=selector) for number in range(3)]

    async def two_served() -> bool:
        ready = [await bench.workspace(key) for key in keys]
        return sum(each.status.state == "Ready" for each in ready) == 2

    await bench.eventually(two_served, "two of three Workspaces have a node")
    used = [(await bench.workspace(key)).status.worker_nodes for key in keys]
    assert sorted(used) == [(), ("own-1",), ("own-2",)]
    waiting = keys[used.index(())]
    await bench.condition(waiting, "ResourceReady", "False", "NoFreeNode")

    served = keys[used.index(("own-1",))]
    await bench.delete(served)
    await bench.gone(served)
    waits = (await bench.workspace(waiting)).metadata.uid

    async def passed_on() -> bool:
        node = await bench.read(Node, Key("", "own-1"))
        return node.metadata.labels.get(labels.RESERVED_FOR) == waits

    await bench.eventually(passed_on, "the node is reserved for who waited for one")
    assert bench.world.made == []


async def test_a_pass_that_changes_nothing_writes_nothing(
    controller: ControllerProcess, bench: Bench
) -> None:
    key = await bench.create("still")
    await bench.condition(key, "WorkspaceReady", "True")
    before = (await bench.workspace(key)).metadata.resource_version

    await bench.client.merge_patch(
        Node.RESOURCE,
        Key("", (await bench.workspace(key)).status.worker_nodes[0]),
        {"metadata": {"annotations": {"example.com/touch": "1"}}},
    )
    await bench.pause(0.5)

    assert (await bench.workspace(key)).metadata.resource_version == before
