"""A claim's life when all goes well, in both dialects, against the real SDK and a real API server."""

import asyncio
import contextlib

import pytest
from provisioner_world.bench import SIZE, VIEWS, Bench, Kind

from controlkit.errors import Stale
from controlkit.kube.objects import Key
from controlkit_testing import eventually
from gpuapis.labels import (
    CAPACITY_TYPE,
    INITIALIZED,
    INSTANCE_TYPE,
    MACHINE_TYPE,
    PROVISION_STARTED,
    REGISTERED,
    TERMINATION_FINALIZER,
    WORKSPACE,
)

KINDS = pytest.mark.parametrize("kind", ["machine", "nodeclaim"])


async def _take_off(bench: Bench, name: str, key: str) -> None:
    """As the daemon that prepares the node does, while others change its taints too."""
    while True:
        node = await bench.node(name)
        patch = {
            "metadata": {"resourceVersion": node.metadata.resource_version},
            "spec": {"taints": [t.manifest() for t in node.spec.taints if t.key != key]},
        }
        with contextlib.suppress(Stale):
            await bench.client.merge_patch(node.RESOURCE, node.key, patch)
            return


@KINDS
async def test_a_claim_becomes_one_ready_node_and_leaves_nothing(bench: Bench, kind: Kind) -> None:
    startup = {"key": "gpu-driver", "effect": "NoSchedule"}
    name = await bench.create(kind, labels={"apps": "phi-3"}, startupTaints=[startup])

    await bench.tells(name, "StartupTaintsExist", "Initialized", kind)
    await _take_off(bench, name, "gpu-driver")
    await bench.becomes(name, kind=kind)

    claim = await bench.claim(name, kind)
    node = await bench.node(name)
    assert claim is not None
    assert claim.status.node_name == node.metadata.name
    assert claim.status.provider_id == node.spec.provider_id
    assert claim.status.allocatable["nvidia.com/gpu"] == "1"
    assert claim.metadata.labels[INSTANCE_TYPE] == SIZE
    assert claim.metadata.labels[CAPACITY_TYPE] == "on-demand"
    assert PROVISION_STARTED in claim.metadata.annotations

    labels = node.metadata.labels
    assert labels[REGISTERED] == labels[INITIALIZED] == "true"
    assert (labels[WORKSPACE], labels["apps"], labels[MACHINE_TYPE]) == ("phi-3", "phi-3", "gpu")
    assert TERMINATION_FINALIZER in node.metadata.finalizers
    assert [owner.uid for owner in node.metadata.owner_references] == [claim.metadata.uid]
    assert any(taint.key == "sku" for taint in node.spec.taints)
    assert not any(taint.key == "gpu-driver" for taint in node.spec.taints)

    assert await bench.puts(name) == [201]
    await bench.delete(name, kind)
    await bench.is_gone(name, kind)


async def test_50_the_request_holds_what_it_must_and_nothing_read_only(bench: Bench) -> None:
    name = await bench.create()
    await bench.becomes(name, "Launched")
    pool = (await bench.control.pools())[name]["properties"]
    assert pool["type"] == "VirtualMachineScaleSets"
    assert (pool["count"], pool["vmSize"], pool["osType"]) == (1, SIZE, "Linux")
    assert (pool["osDiskSizeGB"], pool["mode"]) == (120, "User")
    assert pool["nodeTaints"] == ["sku=gpu:NoSchedule"]
    assert pool["nodeLabels"][WORKSPACE] == "phi-3"
    claim = await bench.claim(name)
    assert claim is not None
    assert pool["tags"]["gpu-provisioner-claim-uid"] == claim.metadata.uid


async def test_45_both_kinds_are_served_side_by_side(bench: Bench) -> None:
    machine, nodeclaim = await bench.create("machine"), await bench.create("nodeclaim")
    await bench.becomes(machine, kind="machine")
    await bench.becomes(nodeclaim, kind="nodeclaim")
    await bench.delete(machine, "machine")
    await bench.delete(nodeclaim, "nodeclaim")
    await bench.is_gone(machine, "machine")
    await bench.is_gone(nodeclaim, "nodeclaim")


async def test_40_many_claims_at_once_share_the_questions(bench: Bench) -> None:
    names = [await bench.create() for _ in range(20)]
    for name in names:
        await bench.becomes(name, seconds=40)
    assert sorted(await bench.control.created_pools()) == sorted(names)
    calls = await bench.control.calls()
    asked = [call["verb"] for call in calls if call["verb"] in {"PUT", "GET", "LIST", "DELETE"}]
    assert len(asked) <= 3 * len(names), sorted(asked)
    for name in names:
        await bench.delete(name)
    for name in names:
        await bench.is_gone(name)


async def test_1_a_stranger_s_claim_is_not_touched(bench: Bench) -> None:
    foreign = {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "default"}
    manifest = {
        "metadata": {"name": "stranger"},
        "spec": {"nodeClassRef": foreign, "requirements": []},
    }
    await bench.client.create(VIEWS["nodeclaim"].RESOURCE, manifest)
    ours = await bench.create()
    await bench.becomes(ours)
    stranger = await bench.claim("stranger", "nodeclaim")
    assert stranger is not None
    assert not stranger.metadata.finalizers
    assert not stranger.status.conditions
    assert await bench.puts("stranger") == []


async def test_a_settled_world_is_left_in_peace(bench: Bench) -> None:
    name = await bench.create()
    await bench.becomes(name)
    await asyncio.sleep(1)
    before = await bench.claim(name), (await bench.node(name))
    last = (await bench.control.calls())[-1]["number"]
    await asyncio.sleep(4)
    after = await bench.claim(name), (await bench.node(name))
    assert [each.metadata.resource_version for each in before if each] == [
        each.metadata.resource_version for each in after if each
    ]
    assert len(await bench.control.calls(after=last)) <= 2


async def test_a_restart_beside_settled_claims_writes_nothing(bench: Bench) -> None:
    name = await bench.create()
    await bench.becomes(name)
    before = await bench.claim(name), (await bench.node(name))
    bench.provisioner.start()
    await asyncio.sleep(2)
    after = await bench.claim(name), (await bench.node(name))
    assert [each.metadata.resource_version for each in before if each] == [
        each.metadata.resource_version for each in after if each
    ]
    assert await bench.puts(name) == [201]


async def test_47_sigterm_ends_it_in_time_and_hands_nothing_over_broken(bench: Bench) -> None:
    name = await bench.create()
    await bench.tells(name, "PoolCreating")
    assert bench.provisioner.stop() == 0
    bench.provisioner.start()
    await bench.becomes(name)


async def test_probes_and_metrics_tell_how_it_is(bench: Bench) -> None:
    name = await bench.create()
    await bench.becomes(name)
    assert bench.provisioner.read("/healthz").text == "ok"
    assert bench.provisioner.read("/readyz").text == "ok"
    metrics = bench.provisioner.read("/metrics").text
    assert 'gpu_provisioner_arm_requests_total{code="OK",operation="put"}' in metrics
    assert 'gpu_provisioner_claim_step_seconds_count{kind="Machine",step="Initialized"}' in metrics
    assert 'controller_runtime_reconcile_total{controller="machines"' in metrics


async def test_5_7_a_claim_that_cannot_be_served_is_told_why(bench: Bench) -> None:
    vague = [{"key": INSTANCE_TYPE, "operator": "NotIn", "values": [SIZE]}]
    name = await bench.create(requirements=vague)
    message = await bench.tells(name, "InvalidRequest")
    assert INSTANCE_TYPE in message
    assert await bench.puts(name) == []
    await bench.delete(name)
    await bench.is_gone(name)


async def test_22_an_edit_is_the_cure_of_an_invalid_machine(bench: Bench) -> None:
    name = await bench.create(requirements=[])
    await bench.tells(name, "InvalidRequest")
    right = {"requirements": [{"key": INSTANCE_TYPE, "operator": "In", "values": [SIZE]}]}
    await bench.client.merge_patch(VIEWS["machine"].RESOURCE, Key("", name), {"spec": right})
    await bench.becomes(name)


async def test_48_a_surge_upgrade_moves_the_claim_to_the_new_node(bench: Bench) -> None:
    name = await bench.create()
    await bench.becomes(name)
    before = await bench.node(name)
    await bench.upgrade(name)

    async def moved() -> bool:
        claim = await bench.claim(name)
        assert claim is not None, "the upgrade took the claim along"
        assert not claim.deleting, "the upgrade took the claim along"
        nodes = [node.metadata.name for node in await bench.nodes(name)]
        other = claim.status.node_name != before.metadata.name
        return other and nodes == [claim.status.node_name]

    await eventually(moved, lambda: bench.story(name, "the claim is on the new node"), 40)
    node = await bench.node(name)
    claim = await bench.claim(name)
    assert claim is not None
    assert claim.status.provider_id == node.spec.provider_id
    assert node.metadata.labels[REGISTERED] == "true"
    await bench.becomes(name)
    await bench.delete(name)
    await bench.is_gone(name)
