"""What a node takes over from its claim, what it lacks, and who has to leave it."""

from datetime import timedelta
from typing import Any

import pytest
from provisioner_world.builders import GPU_TAINT, NOW, claim, node, pod

from gpu_provisioner.claims.claim import Taint
from gpu_provisioner.nodes.eviction import next_to_leave, remaining
from gpu_provisioner.nodes.readiness import initialization
from gpu_provisioner.nodes.registration import (
    cordon_patch,
    initialized_patch,
    registration_patch,
    release_patch,
)
from gpuapis.core import Node, Pod
from gpuapis.labels import (
    DISRUPTED_TAINT,
    DO_NOT_SYNC_TAINTS,
    PROVISION_STARTED,
    REGISTERED,
    TERMINATION_FINALIZER,
    UNREGISTERED_TAINT,
    WORKSPACE,
)

STARTUP = Taint("gpu-driver", "", "NoExecute")


def patch_of(fresh: Node, **changes: Any) -> dict[str, Any]:
    patch = registration_patch(fresh, claim(**changes))
    assert patch is not None
    return patch


def test_a_node_takes_over_labels_annotations_finalizer_and_owner() -> None:
    patch = patch_of(node(registered=False), annotations={"team": "a"})
    metadata = patch["metadata"]
    assert metadata["labels"][WORKSPACE] == "phi-3"
    assert metadata["labels"][REGISTERED] == "true"
    assert metadata["annotations"] == {"team": "a"}
    assert PROVISION_STARTED not in metadata["annotations"]
    assert metadata["finalizers"] == [TERMINATION_FINALIZER]
    assert metadata["ownerReferences"] == [
        {
            "apiVersion": "karpenter.sh/v1alpha5",
            "kind": "Machine",
            "name": claim().name,
            "uid": "uid-1",
            "blockOwnerDeletion": True,
        }
    ]


def test_taints_are_added_and_none_is_doubled_or_changed() -> None:
    kept = Taint("sku", "other-value", "NoSchedule")
    fresh = node(registered=False, taints=(kept, Taint(UNREGISTERED_TAINT, "", "NoExecute")))
    patch = patch_of(fresh, taints=(GPU_TAINT,), startup_taints=(STARTUP,))
    assert patch["spec"]["taints"] == [
        {"key": "sku", "value": "other-value", "effect": "NoSchedule"},
        {"key": "gpu-driver", "effect": "NoExecute"},
    ]


def test_a_startup_taint_that_was_removed_does_not_come_back() -> None:
    done = node(owner="uid-of-an-earlier-claim")
    assert "spec" not in patch_of(done, startup_taints=(STARTUP,))


def test_a_node_may_ask_to_be_left_its_taints() -> None:
    fresh = node(registered=False, labels={DO_NOT_SYNC_TAINTS: "true"})
    assert "spec" not in patch_of(fresh, startup_taints=(STARTUP,))


def test_a_node_that_has_all_is_not_written() -> None:
    assert registration_patch(node(), claim()) is None
    assert initialized_patch(node()) is None
    assert initialized_patch(node(initialized=False)) is not None


def test_an_earlier_claim_of_the_name_is_replaced_as_owner() -> None:
    owners = patch_of(node(owner="uid-0"))["metadata"]["ownerReferences"]
    assert [owner["uid"] for owner in owners] == ["uid-1"]


def test_a_cordon_keeps_the_other_taints_and_the_release_the_other_finalizers() -> None:
    taints = cordon_patch(node())["spec"]["taints"]
    assert [taint["key"] for taint in taints] == ["sku", DISRUPTED_TAINT]
    two = node().model_copy(
        update={
            "metadata": node().metadata.model_copy(
                update={"finalizers": ("other/finalizer", TERMINATION_FINALIZER)}
            )
        }
    )
    assert release_patch(two) == {"metadata": {"finalizers": ["other/finalizer"]}}


@pytest.mark.parametrize(
    ("taint", "reason"),
    [
        (Taint("node.kubernetes.io/not-ready", "", "NoSchedule"), "KnownEphemeralTaintsExist"),
        (Taint("node.kubernetes.io/unreachable", "", "NoSchedule"), "KnownEphemeralTaintsExist"),
        (Taint("node.kubernetes.io/unreachable", "", "NoExecute"), ""),
        (
            Taint("node.cloudprovider.kubernetes.io/uninitialized", "true", "NoSchedule"),
            "KnownEphemeralTaintsExist",
        ),
        (Taint(UNREGISTERED_TAINT, "", "NoExecute"), "KnownEphemeralTaintsExist"),
        (Taint("anything/else", "", "NoSchedule"), ""),
    ],
)
def test_known_taints_are_waited_for_and_others_are_not(taint: Taint, reason: str) -> None:
    assert initialization(node(taints=(taint,)), claim()).reason == reason


def test_a_node_that_never_reported_says_so() -> None:
    silent = node().model_copy(
        update={"status": node().status.model_copy(update={"conditions": ()})}
    )
    assert "has not reported yet" in initialization(silent, claim()).message


@pytest.mark.parametrize("amount", ["0", 0, "nonsense"])
def test_only_what_is_asked_for_is_waited_for(amount: str | int) -> None:
    asking = claim(requests={"nvidia.com/gpu": amount})
    assert initialization(node(gpu=0), asking).state == "done"


def test_memory_is_compared_as_a_quantity() -> None:
    rich = node().model_copy(
        update={
            "status": node().status.model_copy(
                update={"allocatable": {"memory": "220Gi", "nvidia.com/gpu": "1"}}
            )
        }
    )
    assert initialization(rich, claim(requests={"memory": "1Gi"})).state == "done"


@pytest.mark.parametrize(
    ("who", "stays"),
    [
        (pod(phase="Succeeded"), True),
        (pod(phase="Failed"), True),
        (pod(annotations={"kubernetes.io/config.mirror": "x"}), True),
        (pod(tolerations=[{"operator": "Exists"}]), True),
        (pod(tolerations=[{"operator": "Exists", "key": DISRUPTED_TAINT}]), True),
        (pod(tolerations=[{"key": DISRUPTED_TAINT, "effect": "NoSchedule"}]), True),
        (pod(tolerations=[{"operator": "Exists", "effect": "NoExecute"}]), False),
        (pod(tolerations=[{"key": "sku", "operator": "Exists"}]), False),
        (pod(tolerations=[{"key": DISRUPTED_TAINT, "value": "other"}]), False),
        (pod(deleting=-61), True),
        (pod(deleting=-59), False),
        (pod(), False),
        (pod(daemon=True), False),
    ],
)
def test_who_has_to_leave_before_the_vm_goes(who: Any, stays: bool) -> None:
    assert (remaining((who,), NOW) == ()) is stays


def test_models_leave_before_daemons_and_critical_pods_last() -> None:
    model, daemon = pod("model"), pod("daemon", daemon=True)
    critical, critical_daemon = pod("dns", critical=True), pod("proxy", critical=True, daemon=True)
    pods: tuple[Pod, ...] = (critical_daemon, daemon, critical, model)
    for first in (model, daemon, critical, critical_daemon):
        assert next_to_leave(pods) == (first,)
        pods = tuple(each for each in pods if each is not first)
    assert next_to_leave(()) == ()


def test_a_pod_that_is_leaving_is_not_asked_twice_and_holds_back_the_next_turn() -> None:
    assert next_to_leave((pod(deleting=10), pod("daemon", daemon=True))) == ()


def test_times_are_compared_and_not_texts() -> None:
    assert remaining((pod(deleting=0),), NOW + timedelta(seconds=61)) == ()
