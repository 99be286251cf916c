"""How progress reads in both dialects; 20 of the conformance list among others."""

from datetime import timedelta
from typing import Any

import pytest
from provisioner_world.builders import NAME, NOW

from gpu_provisioner.claims.claim import Claim
from gpu_provisioner.claims.dialect import moment, seconds
from gpu_provisioner.claims.machine import MachineDialect
from gpu_provisioner.claims.nodeclaim import NodeClaimDialect
from gpu_provisioner.claims.progress import BEFORE, DONE, Bound, Progress, Step
from gpu_provisioner.claims.status import news
from gpuapis.machine import Machine
from gpuapis.nodeclaim import NodeClaim

MACHINES, NODECLAIMS = MachineDialect(), NodeClaimDialect()
META = {
    "name": NAME,
    "uid": "uid-1",
    "resourceVersion": "5",
    "generation": 3,
    "creationTimestamp": "2030-01-01T11:58:00Z",
    "labels": {"kaito.sh/workspace": "phi-3"},
}
CREATING = Step("waiting", "PoolCreating", "AKS is making it.")
REFUSED = Step("refused", "QuotaExceeded", "Used up.")
FAILED = Step("failed", "InstanceTypeUnavailable", "Not offered.")
BOUND = Bound("node-1", "azure:///vm/0", "image-7", {"cpu": "4"}, {"cpu": "3"})
READY = Progress(DONE, DONE, DONE, bound=BOUND)


def machine(**changes: Any) -> Machine:
    return Machine.model_validate({"metadata": META, "spec": {}, **changes})


def nodeclaim(**changes: Any) -> NodeClaim:
    spec = {
        "nodeClassRef": {"group": "kaito.sh", "kind": "KaitoNodeClass", "name": "default"},
        "requirements": [],
    }
    return NodeClaim.model_validate(
        {
            "metadata": changes.pop("metadata", META),
            "spec": spec | changes.pop("spec", {}),
            **changes,
        }
    )


def read(item: Machine | NodeClaim) -> Claim:
    claim = MACHINES.read(item) if isinstance(item, Machine) else NODECLAIMS.read(item)
    assert claim is not None
    return claim


def told(dialect: Any, claim: Claim, progress: Progress, later: float = 0) -> dict[str, Any]:
    status: dict[str, Any] = dialect.status(claim, progress, NOW + timedelta(seconds=later))
    return status


def short(status: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(c["type"], c["status"], c.get("reason", "")) for c in status["conditions"]]


@pytest.mark.parametrize(
    ("progress", "conditions"),
    [
        (
            Progress(CREATING),
            [
                ("MachineInitialized", "False", "MachineNotLaunched"),
                ("MachineLaunched", "Unknown", "PoolCreating"),
                ("MachineRegistered", "False", "MachineNotLaunched"),
                ("Ready", "False", "MachineNotLaunched"),
            ],
        ),
        (
            Progress(REFUSED),
            [
                ("MachineInitialized", "False", "MachineNotLaunched"),
                ("MachineLaunched", "False", "QuotaExceeded"),
                ("MachineRegistered", "False", "MachineNotLaunched"),
                ("Ready", "False", "QuotaExceeded"),
            ],
        ),
        (
            Progress(DONE, DONE, Step("waiting", "ResourceNotRegistered", "…")),
            [
                ("MachineInitialized", "False", "ResourceNotRegistered"),
                ("MachineLaunched", "True", ""),
                ("MachineRegistered", "True", ""),
                ("Ready", "False", "ResourceNotRegistered"),
            ],
        ),
        (
            READY,
            [
                ("MachineInitialized", "True", ""),
                ("MachineLaunched", "True", ""),
                ("MachineRegistered", "True", ""),
                ("Ready", "True", ""),
            ],
        ),
        (
            Progress(DONE, DONE, DONE, trouble=Step("waiting", "NodeNotReady", "…")),
            [
                ("MachineInitialized", "True", ""),
                ("MachineLaunched", "True", ""),
                ("MachineRegistered", "True", ""),
                ("Ready", "False", "NodeNotReady"),
            ],
        ),
    ],
)
def test_20_a_machine_tells_its_steps_and_ready_the_latest_that_lacks(
    progress: Progress, conditions: list[tuple[str, str, str]]
) -> None:
    assert short(told(MACHINES, read(machine()), progress)) == conditions


@pytest.mark.parametrize(
    ("progress", "conditions"),
    [
        (
            Progress(CREATING),
            [
                ("Launched", "Unknown", "PoolCreating"),
                ("Registered", "Unknown", "AwaitingReconciliation"),
                ("Initialized", "Unknown", "AwaitingReconciliation"),
                ("Ready", "Unknown", "ReconcilingDependents"),
            ],
        ),
        (
            Progress(REFUSED),
            [
                ("Launched", "Unknown", "QuotaExceeded"),
                ("Registered", "Unknown", "AwaitingReconciliation"),
                ("Initialized", "Unknown", "AwaitingReconciliation"),
                ("Ready", "Unknown", "ReconcilingDependents"),
            ],
        ),
        (
            Progress(FAILED),
            [
                ("Launched", "False", "InstanceTypeUnavailable"),
                ("Registered", "Unknown", "AwaitingReconciliation"),
                ("Initialized", "Unknown", "AwaitingReconciliation"),
                ("Ready", "False", "UnhealthyDependents"),
            ],
        ),
        (
            READY,
            [
                ("Launched", "True", "Launched"),
                ("Registered", "True", "Registered"),
                ("Initialized", "True", "Initialized"),
                ("Ready", "True", "Ready"),
            ],
        ),
    ],
)
def test_20_a_nodeclaim_stays_unknown_while_there_is_hope(
    progress: Progress, conditions: list[tuple[str, str, str]]
) -> None:
    assert short(told(NODECLAIMS, read(nodeclaim()), progress)) == conditions


def test_a_nodeclaim_s_ready_names_the_steps_that_lack() -> None:
    ready = told(NODECLAIMS, read(nodeclaim()), Progress(DONE, DONE, CREATING))["conditions"][-1]
    assert ready["message"] == "Initialized=Unknown"
    assert ready["observedGeneration"] == 3


def test_a_machine_s_time_moves_with_its_reason_and_a_nodeclaim_s_with_its_status_alone() -> None:
    for dialect, item, moves in ((MACHINES, machine, True), (NODECLAIMS, nodeclaim, False)):
        before = told(dialect, read(item()), Progress(CREATING))
        again = read(item(status=before))
        after = told(
            dialect,
            again,
            Progress(REFUSED if dialect is NODECLAIMS else Step("waiting", "WaitingForNode", "…")),
            60,
        )
        kind = "MachineLaunched" if dialect is MACHINES else "Launched"
        times = [
            next(c for c in status["conditions"] if c["type"] == kind)["lastTransitionTime"]
            for status in (before, after)
        ]
        assert (times[0] != times[1]) is moves


@pytest.mark.parametrize("progress", [Progress(CREATING), Progress(REFUSED), READY])
def test_what_was_told_is_not_told_again(progress: Progress) -> None:
    later = NOW + timedelta(hours=1)
    again = read(machine(status=told(MACHINES, read(machine()), progress)))
    assert news(MACHINES, again, progress, later) is None
    again = read(nodeclaim(status=told(NODECLAIMS, read(nodeclaim()), progress)))
    assert news(NODECLAIMS, again, progress, later) is None


def test_news_are_the_whole_status() -> None:
    status = news(MACHINES, read(machine()), READY, NOW)
    assert status is not None
    assert status["nodeName"] == "node-1"
    assert status["providerID"] == "azure:///vm/0"
    assert status["allocatable"] == {"cpu": "3"}
    assert "imageID" not in status
    assert told(NODECLAIMS, read(nodeclaim()), READY)["imageID"] == "image-7"


def test_a_claim_that_was_bound_stays_so_while_its_node_is_out_of_sight() -> None:
    bound = read(machine(status=told(MACHINES, read(machine()), READY)))
    assert told(MACHINES, bound, Progress(DONE, None, None))["providerID"] == "azure:///vm/0"


def test_progress_of_the_removal_is_told_step_by_step() -> None:
    for dialect, item in ((MACHINES, machine), (NODECLAIMS, nodeclaim)):
        claim = read(item(status=told(dialect, read(item()), READY)))
        draining = Progress(None, None, None, ending=Step("waiting", "Draining", "2 pods."))
        status = told(dialect, claim, draining)
        assert ("Drained", "Unknown", "Draining") in short(status)
        claim = read(item(status=status))
        going = Progress(None, None, None, ending=Step("waiting", "PoolDeleting", "…"))
        conditions = short(told(dialect, claim, going))
        assert ("Drained", "True", "Drained") in conditions
        assert ("InstanceTerminating", "Unknown", "PoolDeleting") in conditions
        launched = "MachineLaunched" if dialect is MACHINES else "Launched"
        assert any(kind == launched and status == "True" for kind, status, _ in conditions)


def test_a_removal_before_anything_was_told_tells_what_is_lacking() -> None:
    ending = Progress(None, None, None, ending=Step("waiting", "PoolDeleting", "…"))
    assert ("MachineLaunched", "False", "MachineNotLaunched") in short(
        told(MACHINES, read(machine()), ending)
    )
    assert ("Launched", "Unknown", "AwaitingReconciliation") in short(
        told(NODECLAIMS, read(nodeclaim()), ending)
    )


def test_conditions_of_other_tools_are_kept() -> None:
    drifted = {"type": "MachineDrifted", "status": "True", "severity": "Info", "reason": "Other"}
    claim = read(machine(status={"conditions": [drifted]}))
    assert drifted in told(MACHINES, claim, READY)["conditions"]
    other = {
        "type": "Consolidatable",
        "status": "False",
        "reason": "Other",
        "message": "",
        "lastTransitionTime": "2030-01-01T00:00:00Z",
    }
    kept = read(nodeclaim(status={"conditions": [other]}))
    assert short(told(NODECLAIMS, kept, READY))[0] == ("Consolidatable", "False", "Other")


def test_of_steps_that_changed_at_once_ready_tells_the_cause() -> None:
    status = told(MACHINES, read(machine()), Progress(REFUSED, BEFORE, BEFORE))
    assert ("Ready", "False", "QuotaExceeded") in short(status)


def test_1_a_claim_without_our_marks_is_not_ours() -> None:
    bare = {**META, "labels": {}}
    assert MACHINES.read(machine(metadata=bare)) is None
    foreign = {"nodeClassRef": {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "d"}}
    assert NODECLAIMS.read(nodeclaim(metadata=bare, spec=foreign)) is None
    assert NODECLAIMS.read(nodeclaim(metadata=bare)) is not None
    assert NODECLAIMS.read(nodeclaim(spec=foreign)) is not None
    rag = {**META, "labels": {"kaito.sh/ragengine": "r"}}
    assert MACHINES.read(machine(metadata=rag)) is not None


def test_what_a_claim_asks_for_is_read_alike_in_both_dialects() -> None:
    spec = {
        "requirements": [{"key": "k", "operator": "In", "values": ["v"]}],
        "resources": {"requests": {"storage": "1Gi"}},
        "taints": [{"key": "sku", "value": "gpu", "effect": "NoSchedule"}],
        "startupTaints": [{"key": "s", "effect": "NoExecute"}],
    }
    one, two = read(machine(spec=spec)), read(nodeclaim(spec=spec))
    for name in ("name", "uid", "requirements", "requests", "taints", "startup_taints", "created"):
        assert getattr(one, name) == getattr(two, name)
    assert two.api_version == "karpenter.sh/v1"


def test_odd_texts_in_a_status_do_no_harm() -> None:
    status = {"conditions": [{"type": "Ready", "status": "Perhaps", "lastTransitionTime": "now"}]}
    assert read(machine(status=status)).conditions["Ready"].status == "Unknown"
    assert moment("2030-01-01T00:00:00") is not None
    assert seconds("1h30m5s") == 5405
    assert seconds(None) is None


def test_a_start_that_makes_no_sense_counts_from_the_claim_s_creation() -> None:
    for text in ("yesterday", "2030-01-01T00:00:00"):
        meta = {**META, "annotations": {"kaito.sh/provision-started": text}}
        claim = read(machine(metadata=meta))
        assert claim.started == claim.created
