"""How claims of both kinds are read."""

from datetime import UTC, datetime
from typing import Any

import pytest

from gpuapis import labels
from gpuapis.machine import Machine
from gpuapis.nodeclaim import NodeClaim
from workspace_controller.claims.causes import verdict
from workspace_controller.claims.dialects import node_index, owner_index, read

CREATED = "2026-01-01T00:00:00Z"
LATER = "2026-01-01T00:01:00Z"


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def metadata(**more: Any) -> dict[str, Any]:
    return {"name": "ws1", "uid": "c-1", "creationTimestamp": CREATED, **more}


def condition(kind: str, status: str, reason: str = "", message: str = "") -> dict[str, str]:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": LATER,
    }


def machine(*conditions: dict[str, Any], node: str | None = None, **meta: Any) -> Machine:
    status = {"conditions": conditions, "nodeName": node}
    return Machine.model_validate({"metadata": metadata(**meta), "status": status})


def nodeclaim(*conditions: dict[str, str], **meta: Any) -> NodeClaim:
    spec = {"nodeClassRef": {"group": "g", "kind": "k", "name": "n"}, "requirements": []}
    status = {"conditions": conditions}
    return NodeClaim.model_validate({"metadata": metadata(**meta), "spec": spec, "status": status})


@pytest.mark.parametrize(
    ("conditions", "phase", "since"),
    [
        ((), "silent", CREATED),
        ((condition("Launched", "Unknown", "PoolCreating"),), "launching", LATER),
        ((condition("Launched", "True"),), "joining", LATER),
        ((condition("Launched", "True"), condition("Registered", "True")), "preparing", LATER),
        ((condition("Launched", "True"), condition("Ready", "True")), "ready", LATER),
        ((condition("Registered", "Unknown"),), "launching", CREATED),
    ],
)
def test_both_kinds_go_through_the_same_phases(
    conditions: tuple[dict[str, str], ...], phase: str, since: str
) -> None:
    as_machine = [
        each | {"type": "Ready" if each["type"] == "Ready" else f"Machine{each['type']}"}
        for each in conditions
    ]
    for claim in (machine(*as_machine), nodeclaim(*conditions)):
        found = read(claim, "u-1")
        assert (found.phase, found.since) == (phase, moment(since))


def test_a_claim_on_its_way_out_is_deleting_since_then() -> None:
    found = read(machine(deletionTimestamp=LATER), "u-1")
    assert (found.phase, found.since, found.live) == ("deleting", moment(LATER), False)


def test_what_is_said_while_it_goes_is_no_cause_but_what_went_wrong_before_is() -> None:
    leaving = condition("Ready", "False", "InstanceTerminating")
    served = condition("MachineLaunched", "True")
    failed = condition("MachineLaunched", "False", "InsufficientCapacity", "none left")
    assert read(machine(served, leaving, deletionTimestamp=LATER), "u-1").verdict == "progress"
    found = read(machine(failed, leaving, deletionTimestamp=LATER), "u-1")
    assert (found.phase, found.verdict, found.reason) == (
        "deleting",
        "blocked",
        "InsufficientCapacity",
    )


def test_the_first_condition_that_is_not_true_is_the_cause() -> None:
    found = read(
        machine(
            condition("Ready", "False", "QuotaExceeded", "m"),
            condition("MachineLaunched", "False", "QuotaExceeded", "0 of 6 left"),
            condition("MachineRegistered", "False", "MachineNotLaunched"),
        ),
        "u-1",
    )
    assert (found.verdict, found.reason, found.message) == (
        "blocked",
        "QuotaExceeded",
        "0 of 6 left",
    )


def test_a_cause_is_dated_by_its_own_condition() -> None:
    early = condition("MachineRegistered", "True") | {"lastTransitionTime": CREATED}
    broken = condition("Ready", "False", "MultipleNodesFound")
    found = read(machine(early, broken), "u-1")
    assert (found.phase, found.since, found.caused_at) == (
        "preparing",
        moment(CREATED),
        moment(LATER),
    )
    assert read(machine(condition("Ready", "True")), "u-1").caused_at is None


def test_long_messages_are_cut() -> None:
    found = read(machine(condition("MachineLaunched", "False", "LaunchFailed", "x" * 5000)), "u-1")
    assert len(found.message) == 1000


def test_slot_attempt_node_and_owner_are_read() -> None:
    marks = {labels.SLOT: "3", labels.WORKSPACE: "w", labels.WORKSPACE_NAMESPACE: "n"}
    notes = {labels.ATTEMPT: "2", labels.WORKSPACE_UID: "u-1"}
    claim = machine(node="node-3", labels=marks, annotations=notes)
    found = read(claim, "u-1")
    assert (found.slot, found.attempt, found.node, found.ours) == (3, 2, "node-3", True)
    assert not read(claim, "u-2").ours
    assert list(owner_index(claim)) == ["n/w"]
    assert list(node_index(claim)) == ["node-3"]


def test_a_claim_of_another_release_has_no_slot_and_counts_as_ours() -> None:
    claim = machine(labels={labels.WORKSPACE: "w"})
    found = read(claim, "u-1")
    assert (found.slot, found.attempt, found.ours) == (None, 0, True)
    assert list(owner_index(claim)) == []
    assert list(node_index(claim)) == []


@pytest.mark.parametrize("text", [None, "soon", "2026-01-01T00:01:00"])
def test_a_time_that_cannot_be_read_counts_as_creation(text: str | None) -> None:
    said: dict[str, Any] = condition("MachineLaunched", "True") | {"lastTransitionTime": text}
    assert read(machine(said), "u-1").since == moment(CREATED)


def test_the_milestones_are_those_reached() -> None:
    found = read(nodeclaim(condition("Launched", "True"), condition("Ready", "False")), "u-1")
    assert found.milestones == (moment(CREATED), moment(LATER), None, None)


@pytest.mark.parametrize(
    ("status", "reason", "message", "expected"),
    [
        ("Unknown", "AwaitingReconciliation", "", "progress"),
        ("False", "PoolCreating", "", "progress"),
        ("Unknown", "Throttled", "", "progress"),
        ("Unknown", "LaunchFailed", "", "blocked"),
        ("False", "SomethingNew", "", "blocked"),
        ("Unknown", "SomethingNew", "", "progress"),
        ("False", "NodeBootstrapFailed", "", "broken"),
        ("False", "InvalidRequest", "", "hopeless"),
        (
            "False",
            "LaunchFailed",
            "all requested instance types were unavailable during launch",
            "hopeless",
        ),
        (
            "Unknown",
            "LaunchFailed",
            "The VM size is not allowed in your subscription in location 'eastus'",
            "hopeless",
        ),
    ],
)
def test_what_a_reason_asks_for(status: str, reason: str, message: str, expected: str) -> None:
    assert verdict(status, reason, message) == expected
