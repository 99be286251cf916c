"""Things go wrong at every step of a Workspace's life; it reaches the right end all the same."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from workspace_world import Bench, ControllerProcess

from controlkit.kube.objects import Key
from gpuapis import labels
from gpuapis.core import Deployment, Node, Service
from gpuapis.machine import Machine
from gpuapis.workspace import Workspace
from sandbox.controlplane import ControlPlane
from sandbox.controlplane.addresses import free_ports

pytestmark = pytest.mark.control_plane


async def test_a_workspace_deleted_while_its_node_is_being_made_leaves_nothing(
    controller: ControllerProcess, bench: Bench
) -> None:
    bench.world.stop_at = "launched"
    key = await bench.create("hasty")
    claim = await bench.launched_claim(key)
    bench.world.release = False
    await bench.delete(key)
    await bench.condition(key, "WorkspaceDeleting", "True", "workspaceDeleted")
    await bench.pause(0.5)
    assert await bench.exists(Workspace, key), "it waits for the claim"
    assert (await bench.read(Machine, claim.key)).deleting

    bench.world.release = True
    await bench.gone(key)
    assert await bench.claims(key) == []


async def test_a_machine_deleted_by_hand_is_replaced_once(
    controller: ControllerProcess, bench: Bench
) -> None:
    key = await bench.create("lost")
    await bench.condition(key, "WorkspaceReady", "True")
    first = await bench.the_claim(key)

    await bench.client.delete(Machine.RESOURCE, first.key)
    await bench.condition(key, "WorkspaceReady", "False")
    await bench.condition(key, "WorkspaceReady", "True")

    second = await bench.the_claim(key)
    assert second.key != first.key
    assert second.metadata.annotations[labels.ATTEMPT] == "1"
    assert bench.world.made == [first.key.name, second.key.name]
    (slot,) = (await bench.workspace(key)).status.slots
    assert (slot.attempt, slot.failures) == (1, 1)


async def test_a_node_deleted_by_hand_is_replaced_with_its_machine(
    controller: ControllerProcess, bench: Bench
) -> None:
    key = await bench.create("nodeless")
    await bench.condition(key, "WorkspaceReady", "True")
    first = await bench.the_claim(key)

    await bench.client.delete(Node.RESOURCE, Key("", f"node-{first.key.name}"))
    await bench.condition(key, "WorkspaceReady", "False")
    await bench.condition(key, "WorkspaceReady", "True")

    second = await bench.the_claim(key)
    assert second.key != first.key
    assert len(bench.world.made) == 2


async def test_a_failed_launch_shows_within_two_seconds_with_one_event(
    controller: ControllerProcess, bench: Bench
) -> None:
    bench.world.failure = ("QuotaExceeded", "0 of 6 vCPUs of standardNCSv3Family left in eastus")
    key = await bench.create("poor")
    claim = await bench.the_claim(key)

    async def failed() -> bool:
        found = await bench.read(Machine, claim.key)
        return bool(found.status.conditions)

    await bench.eventually(failed, "the provisioner has failed")
    began = time.monotonic()
    lifted = await bench.condition(key, "MachineReady", "False", "QuotaExceeded", seconds=2.0)
    assert time.monotonic() - began < 2.0
    assert "standardNCSv3Family left in eastus" in lifted.message
    resource = await bench.condition(key, "ResourceReady", "False", "QuotaExceeded")
    assert len(resource.message) < len(lifted.message)
    assert "What to do: see MachineReady." in resource.message
    await bench.condition(key, "WorkspaceReady", "False", "workspaceFailed")

    async def warned() -> list[dict[str, Any]]:
        return await bench.events(key, "Warning")

    await bench.eventually(warned, "a Warning")
    await bench.pause(1.0)
    (warning,) = await bench.events(key, "Warning")
    assert warning["reason"] == "QuotaExceeded"
    assert len(bench.world.made) == 1, "the provisioner tries again, so no second claim is made"

    bench.world.failure = None
    await bench.condition(key, "WorkspaceReady", "True")
    assert len(bench.world.made) == 1


async def test_a_node_without_its_gpu_is_not_ready_and_says_what_to_look_at(
    controller: ControllerProcess, bench: Bench
) -> None:
    bench.world.gpus = 0
    key = await bench.create("blind")
    found = await bench.condition(key, "ResourceReady", "False", "NodePluginsNotReady")
    assert "offers 0 of 1 nvidia.com/gpu" in found.message
    assert not await bench.exists(Deployment, key)

    (node,) = [node.key for node in (await bench.client.list(Node)).items]
    marked = await bench.read(Node, node)
    assert marked.metadata.labels[labels.ACCELERATOR] == "nvidia", "for the device plugin"
    await bench.make_node(node.name, {}, gpus=1)
    await bench.condition(key, "WorkspaceReady", "True")


async def test_two_workspaces_with_equal_selectors_never_share_a_node(
    controller: ControllerProcess, bench: Bench
) -> None:
    selector = {
        "instanceType": "Standard_NC6s_v3",
        "labelSelector": {"matchLabels": {"apps": "shared"}},
    }
    keys = [await bench.create(name, resource=selector) for name in ("first", "second")]
    for key in keys:
        await bench.condition(key, "WorkspaceReady", "True")
    nodes = [(await bench.workspace(key)).status.worker_nodes for key in keys]
    assert len({*nodes[0], *nodes[1]}) == 2


async def test_a_stranger_with_our_name_is_left_alone(
    controller: ControllerProcess, bench: Bench
) -> None:
    ports = [{"port": 80}]
    await bench.client.create(
        Service.RESOURCE,
        {"metadata": {"name": "taken", "namespace": bench.namespace}, "spec": {"ports": ports}},
    )
    key = await bench.create("taken")
    found = await bench.condition(key, "InferenceReady", "False", "NameTaken")
    assert "is not ours" in found.message
    service = await bench.read(Service, key)
    assert service.metadata.labels == {}
    assert not await bench.exists(Deployment, key)

    await bench.delete(key)
    await bench.gone(key)
    assert await bench.exists(Service, key)


async def test_another_ones_finalizer_stays_and_claims_go_before_ours(
    controller: ControllerProcess, bench: Bench
) -> None:
    manifest = bench.manifest("guarded")
    manifest["metadata"]["finalizers"] = ["example.com/theirs"]
    await bench.client.create(Workspace.RESOURCE, manifest)
    key = bench.key("guarded")
    await bench.condition(key, "WorkspaceReady", "True")
    await bench.delete(key)

    async def only_theirs() -> bool:
        return (await bench.workspace(key)).metadata.finalizers == ("example.com/theirs",)

    await bench.eventually(only_theirs, "our finalizer is gone, the other stays")
    assert await bench.claims(key) == []


async def test_claims_whose_workspace_lost_its_finalizer_are_swept_up(
    controller_process: ControllerProcess, bench: Bench
) -> None:
    controller_process.start()
    bench.world.stop_at = "launched"
    key = await bench.create("stripped")
    await bench.the_claim(key)
    controller_process.stop()
    await bench.client.merge_patch(Workspace.RESOURCE, key, {"metadata": {"finalizers": None}})
    await bench.delete(key)
    await bench.gone(key)

    controller_process.start()

    async def swept() -> bool:
        return await bench.claims(key) == []

    await bench.eventually(swept, "the orphan is gone")


async def test_pods_that_fail_are_explained_and_ready_flips_back(
    controller: ControllerProcess, bench: Bench
) -> None:
    key = await bench.create("moody")
    await bench.condition(key, "WorkspaceReady", "True")

    bench.world.serve = False
    await bench.make_pod("moody-1", key, crash_code=3, last_words="RuntimeError: no kernel")
    deployment = await bench.read(Deployment, key)
    counts = {"replicas": 1, "readyReplicas": 0, "availableReplicas": 0, "updatedReplicas": 1}
    await bench.client.merge_patch(
        Deployment.RESOURCE, deployment.key, {"status": counts}, subresource="status"
    )
    found = await bench.condition(key, "InferenceReady", "False", "ContainerCrashLoopBackOff")
    assert "exit code 3" in found.message
    assert "RuntimeError: no kernel" in found.message
    await bench.condition(key, "WorkspaceReady", "False", "workspaceFailed")
    assert (await bench.workspace(key)).status.state == "NotReady"

    bench.world.serve = True
    await bench.condition(key, "WorkspaceReady", "True")
    assert (await bench.workspace(key)).status.state == "Ready"


@pytest.mark.parametrize("delay", [0.0, 0.03, 0.06, 0.1, 0.2])
async def test_killed_soon_after_creation_it_still_buys_one_node(
    controller_process: ControllerProcess, bench: Bench, delay: float
) -> None:
    controller_process.start()
    bench.world.stop_at = "asked"
    key = await bench.create(f"killed-{int(delay * 1000)}")
    await bench.pause(delay)
    controller_process.kill()
    controller_process.start()
    bench.world.stop_at = "ready"

    await bench.condition(key, "WorkspaceReady", "True")
    assert len(bench.world.made) == 1


@pytest.mark.parametrize("step", ["asked", "launched", "registered", "ready"])
async def test_killed_at_each_step_it_goes_on_where_it_was(
    controller_process: ControllerProcess, bench: Bench, step: str
) -> None:
    controller_process.start()
    bench.world.stop_at = step
    bench.world.serve = False
    key = await bench.create(f"killed-{step}")
    reached = {"ready": "True"}.get(step, "Unknown")
    await bench.condition(key, "MachineReady", reached)
    controller_process.kill()
    bench.world.stop_at, bench.world.serve = "ready", True
    await bench.pause(0.3)
    controller_process.start()
    await bench.condition(key, "WorkspaceReady", "True")
    assert len(bench.world.made) == 1

    bench.world.release = False
    await bench.delete(key)
    await bench.condition(key, "WorkspaceDeleting", "True")
    controller_process.kill()
    bench.world.release = True
    controller_process.start()
    await bench.gone(key)
    assert await bench.claims(key) == []


async def test_a_second_replica_takes_over_from_a_killed_leader(
    controller_process: ControllerProcess, bench: Bench, tmp_path: Path
) -> None:
    elected = {"LEADER_ELECT": "true"}
    second = replace(
        controller_process, process=None, folder=tmp_path, webhook_port=free_ports(1)[0]
    )
    controller_process.start(**elected)
    try:
        bench.world.stop_at = "asked"
        key = await bench.create("inherited")
        claim = await bench.the_claim(key)
        second.start(**elected)
        controller_process.kill()
        bench.world.stop_at = "ready"
        # The dead leader's term of 15 s must run out first.
        await bench.condition(key, "WorkspaceReady", "True", seconds=40.0)
        assert bench.world.made == [claim.key.name]

        await bench.delete(key)
        await bench.gone(key)
        assert await bench.claims(key) == []
        second.stop()  # in good order: the term ends with it
        controller_process.start(**elected)
        await bench.condition(await bench.create("next"), "WorkspaceReady", "True")
    finally:
        second.stop()
        controller_process.start()


async def test_a_workspace_made_and_deleted_while_the_controller_is_down_goes_at_once(
    controller_process: ControllerProcess, bench: Bench
) -> None:
    controller_process.start()
    key = await bench.create("brief")
    await bench.condition(key, "WorkspaceReady", "True")
    controller_process.kill()
    await bench.delete(key)
    controller_process.start()
    await bench.gone(key)
    assert len(bench.world.made) == 1


async def test_a_missing_permission_is_said_in_the_status(
    controller: ControllerProcess, bench: Bench, control_plane: ControlPlane
) -> None:
    path = "/apis/rbac.authorization.k8s.io/v1/clusterroles/workspace-clusterrole"
    role = await control_plane.admin.call("GET", path)
    lacking = [rule for rule in role["rules"] if "machines" not in rule["resources"]]
    watching = {"apiGroups": ["karpenter.sh"], "resources": ["machines", "nodeclaims"]}
    lacking.append(watching | {"verbs": ["get", "list", "watch"]})
    try:
        await control_plane.admin.call("PUT", path, role | {"rules": lacking})
        await bench.pause(0.5)
        key = await bench.create("forbidden")
        found = await bench.condition(key, "ResourceReady", "False", "Forbidden")
        assert "machines" in found.message
    finally:
        fresh = await control_plane.admin.call("GET", path)
        await control_plane.admin.call("PUT", path, fresh | {"rules": role["rules"]})
    controller.start()
    await bench.condition(key, "WorkspaceReady", "True")


async def test_it_survives_the_api_server(
    controller: ControllerProcess, bench: Bench, control_plane: ControlPlane
) -> None:
    bench.world.stop_at = "launched"
    key = await bench.create("enduring")
    await bench.condition(key, "MachineReady", "Unknown")
    await control_plane.stop_apiserver(grace=0.0)
    await bench.pause(0.5)
    await control_plane.start_apiserver()
    bench.world.stop_at = "ready"
    await bench.condition(key, "WorkspaceReady", "True", seconds=40.0)
    assert len(bench.world.made) == 1
