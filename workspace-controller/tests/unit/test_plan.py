"""The planner as a table: what was seen, and what follows from it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gpuapis import labels
from gpuapis.machine import Machine
from workspace_controller.claims.dialects import read
from workspace_controller.workspaces.facts import (
    Action,
    AddFinalizer,
    ApplyChild,
    Child,
    Claim,
    ClaimPhase,
    CreateClaims,
    DeleteClaims,
    Finding,
    LabelNode,
    Node,
    Observed,
    Order,
    PodTrouble,
    Problem,
    ReleaseNodes,
    RemoveChild,
    RemoveFinalizer,
    Report,
    ReserveNode,
    Scale,
    Serving,
    SlotRecord,
    Vet,
)
from workspace_controller.workspaces.plan import SHORTAGE_CHECK, decide
from workspace_controller.workspaces.slots import GONE_CHECK, back_off, claim_name

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
UID = "u-1"


def ago(**span: float) -> datetime:
    return NOW - timedelta(**span)


def claim(
    slot: int | None = 0, phase: ClaimPhase = "launching", attempt: int = 0, **more: Any
) -> Claim:
    name = claim_name(UID, slot or 0, attempt)
    node = f"node-{slot}" if phase == "ready" else ""
    facts: dict[str, Any] = {
        "name": name,
        "kind": "Machine",
        "since": ago(seconds=5),
        "node": node,
    }
    facts |= more
    return Claim(phase=phase, slot=slot, attempt=attempt, **facts)


def node(slot: int = 0, **more: Any) -> Node:
    return Node(**{"name": f"node-{slot}", "gpus": 1, **more})


def nodes(*all_of_them: Node) -> dict[str, Node]:
    return {each.name: each for each in all_of_them}


def record(
    slot: int = 0, attempt: int = 0, failures: int = 0, lost_at: datetime | None = None
) -> SlotRecord:
    return SlotRecord(slot, claim_name(UID, slot, attempt), attempt, failures, lost_at)


def condition(kind: str, status: str, at: datetime, reason: str = "") -> dict[str, str]:
    """A condition of a Machine."""
    return {"type": kind, "status": status, "lastTransitionTime": at.isoformat(), "reason": reason}


ABSENT = (Child("Service", "s1"), Child("Deployment", "d1"))
APPLIED = (Child("Service", "s1", "s1", "ours"), Child("Deployment", "d1", "d1", "ours"))
SERVED = Serving(asked=1, present=1, ready=1, updated=1)


def seen(**facts: Any) -> Observed:
    return Observed(**{"now": NOW, "uid": UID, "children": ABSENT, **facts})


def with_node(**facts: Any) -> Observed:
    """A Workspace whose only claim and node are ready."""
    return seen(**{"claims": (claim(phase="ready"),), "nodes": nodes(node()), **facts})


def served(**facts: Any) -> Observed:
    return with_node(**{"children": APPLIED, "serving": SERVED, **facts})


SPREAD_ABSENT = (
    Child("Service", "s1"),
    Child("HeadlessService", "h1", name="phi-headless"),
    Child("Deployment"),
    Child("StatefulSet", "t1"),
)
SPREAD_APPLIED = (
    Child("Service", "s1", "s1", "ours"),
    Child("HeadlessService", "h1", "h1", "ours"),
    Child("Deployment"),
    Child("StatefulSet", "t1", "t1", "ours"),
)
DEPLOYED = Child("Deployment", "", "d1", "ours")
STATEFUL = Child("StatefulSet", "", "t1", "ours")
MISSING = Problem("InferenceConfigNotReady", "ConfigMap settings does not exist")


def pair(**facts: Any) -> Observed:
    """A Workspace of two nodes, both ready, that one copy of a model is spread over."""
    base = {
        "wanted": 2,
        "claims": (claim(phase="ready"), claim(1, phase="ready")),
        "nodes": nodes(node(), node(1)),
        "children": SPREAD_APPLIED,
        "serving": Serving(asked=2, present=2, ready=2, updated=2),
    }
    return seen(**base | facts)


FIRST = CreateClaims("Machine", (Order(0, 0),))

broken_late = read(
    Machine.model_validate(
        {
            "metadata": {
                "name": claim_name(UID, 0, 0),
                "creationTimestamp": ago(hours=6).isoformat(),
                "labels": {labels.SLOT: "0"},
            },
            "status": {
                "conditions": [
                    condition("MachineLaunched", "True", ago(hours=5)),
                    condition("MachineRegistered", "True", ago(hours=5)),
                    condition("Ready", "False", ago(seconds=1), "MultipleNodesFound"),
                ]
            },
        }
    ),
    UID,
)

ACTIONS: dict[str, tuple[Observed, tuple[Action, ...]]] = {
    "the-finalizer-comes-before-the-claims": (seen(held=False), (AddFinalizer(), FIRST)),
    "all-slots-are-claimed-at-once": (
        seen(wanted=3),
        (CreateClaims("Machine", (Order(0, 0), Order(1, 0), Order(2, 0))),),
    ),
    "nodeclaims-are-made-where-they-are-served": (
        seen(claim_kind="NodeClaim"),
        (CreateClaims("NodeClaim", (Order(0, 0),)),),
    ),
    "no-claim-is-made-where-none-is-served": (seen(claim_kind=None), ()),
    "no-claim-is-made-for-own-nodes": (seen(claim_kind=None, byo=True), ()),
    "a-claim-on-its-way-is-left-alone": (seen(claims=(claim(),)), ()),
    "only-the-empty-slot-is-claimed": (
        seen(wanted=2, claims=(claim(1),)),
        (CreateClaims("Machine", (Order(0, 0),)),),
    ),
    "a-claim-of-another-release-fills-a-slot": (seen(claims=(claim(None),)), ()),
    "a-claim-of-another-release-fills-the-free-slot": (
        seen(wanted=2, claims=(claim(0), claim(None, name="old"))),
        (),
    ),
    "a-claim-of-an-earlier-workspace-is-removed": (
        seen(claims=(claim(ours=False, name="old"),)),
        (DeleteClaims((claim(ours=False, name="old"),)), FIRST),
    ),
    "of-two-claims-for-a-slot-the-ready-one-stays": (
        with_node(claims=(claim(attempt=1), claim(phase="ready"))),
        (DeleteClaims((claim(attempt=1),)), ApplyChild("Service"), ApplyChild("Deployment")),
    ),
    "of-two-unready-claims-the-later-stays": (
        seen(claims=(claim(attempt=1), claim())),
        (DeleteClaims((claim(),)),),
    ),
    "a-lost-claim-is-replaced-at-once-the-first-time": (
        seen(records=(record(),)),
        (CreateClaims("Machine", (Order(0, 1, after=claim_name(UID, 0, 0)),)),),
    ),
    "a-lost-claim-waits-while-it-is-on-its-way-out": (
        seen(claims=(claim(phase="deleting"),), records=(record(),)),
        (),
    ),
    "a-claim-on-its-way-out-counts-even-without-a-record": (
        seen(claims=(claim(phase="deleting"),)),
        (),
    ),
    "the-second-loss-waits-for-its-pause": (
        seen(records=(record(attempt=1, failures=2, lost_at=ago(seconds=3)),)),
        (),
    ),
    "the-second-loss-is-mended-after-its-pause": (
        seen(records=(record(attempt=1, failures=2, lost_at=ago(seconds=11)),)),
        (CreateClaims("Machine", (Order(0, 2, after=claim_name(UID, 0, 1)),)),),
    ),
    "a-broken-claim-gets-its-grace": (
        seen(claims=(claim(verdict="broken", since=ago(minutes=9)),)),
        (),
    ),
    "a-broken-claim-is-dropped-after-its-grace": (
        seen(claims=(claim(verdict="broken", since=ago(minutes=10)),)),
        (DeleteClaims((claim(verdict="broken", since=ago(minutes=10)),)),),
    ),
    "a-claim-that-broke-after-hours-gets-its-grace": (
        seen(claims=(broken_late,)),
        (),
    ),
    "a-node-that-never-joins-is-dropped": (
        seen(claims=(claim(phase="joining", since=ago(minutes=20)),)),
        (DeleteClaims((claim(phase="joining", since=ago(minutes=20)),)),),
    ),
    "a-blocked-claim-is-left-to-its-provisioner": (
        seen(claims=(claim(verdict="blocked", since=ago(days=1)),)),
        (),
    ),
    "a-hopeless-claim-is-kept-for-a-person-to-see": (
        seen(claims=(claim(verdict="hopeless", since=ago(days=1)),)),
        (),
    ),
    "surplus-waits-until-the-workload-has-shrunk": (
        served(
            claims=(claim(phase="ready"), claim(1, phase="ready")),
            nodes=nodes(node(), node(1)),
            serving=replace(SERVED, asked=2, present=2),
        ),
        (Scale(1),),
    ),
    "surplus-goes-when-the-workload-has-shrunk": (
        served(claims=(claim(phase="ready"), claim(1, phase="ready"))),
        (DeleteClaims((claim(1, phase="ready"),)),),
    ),
    "surplus-that-serves-nothing-leaves-before-the-newest": (
        served(
            claims=(claim(phase="ready"), claim(1, phase="ready")),
            nodes=nodes(node(), node(1, pods=1)),
        ),
        (DeleteClaims((claim(phase="ready"),)),),
    ),
    "surplus-that-is-still-being-made-leaves-at-once": (
        served(
            claims=(claim(), claim(1, phase="ready")),
            nodes=nodes(node(1, pods=2)),
            serving=replace(SERVED, asked=2, present=2),
        ),
        (DeleteClaims((claim(),)), Scale(1)),
    ),
    "surplus-that-has-failed-leaves-before-what-is-on-its-way": (
        seen(claims=(claim(verdict="blocked"), claim(1), claim(2)), wanted=2),
        (DeleteClaims((claim(verdict="blocked"),)),),
    ),
    "a-free-node-is-used-before-one-is-bought": (
        seen(wanted=2, adoptable=("free-1",)),
        (ReserveNode("free-1"), FIRST),
    ),
    "no-free-node-is-taken-without-need": (
        served(adoptable=("free-1",)),
        (),
    ),
    "reserved-nodes-serve": (
        seen(reserved=("node-0",), nodes=nodes(node())),
        (ApplyChild("Service"), ApplyChild("Deployment")),
    ),
    "reserved-nodes-beyond-need-are-given-back": (
        served(claims=(), reserved=("node-0", "node-1"), nodes=nodes(node(), node(1))),
        (ReleaseNodes(("node-1",)),),
    ),
    "reserved-nodes-beyond-need-stay-until-their-pods-have-gone": (
        served(
            claims=(),
            reserved=("node-0", "node-1"),
            nodes=nodes(node(pods=1), node(1, pods=1)),
            serving=Serving(asked=2, present=2, ready=2, updated=2),
        ),
        (Scale(1),),
    ),
    "of-reserved-nodes-the-idle-one-is-given-back": (
        served(claims=(), reserved=("node-0", "node-1"), nodes=nodes(node(), node(1, pods=1))),
        (ReleaseNodes(("node-0",)),),
    ),
    "an-idle-reserved-node-stays-while-pods-are-still-to-go": (
        served(
            claims=(),
            reserved=("node-0", "node-1"),
            nodes=nodes(node(), node(1, pods=1)),
            serving=Serving(asked=1, present=2, ready=1, updated=1),
        ),
        (),
    ),
    "a-node-is-labelled-before-its-gpu-shows": (
        seen(
            claims=(claim(phase="preparing", node="node-0"),),
            nodes=nodes(node(gpus=0, labelled=False)),
        ),
        (LabelNode("node-0"),),
    ),
    "the-model-is-deployed-when-the-node-is-ready": (
        with_node(),
        (ApplyChild("Service"), ApplyChild("Deployment")),
    ),
    "the-model-waits-for-every-node": (
        seen(wanted=2, claims=(claim(phase="ready"), claim(1)), nodes=nodes(node())),
        (),
    ),
    "the-model-waits-for-the-gpu": (with_node(nodes=nodes(node(gpus=0))), ()),
    "nothing-is-done-when-all-is-well": (served(), ()),
    "an-edit-is-rolled-out": (
        served(children=(APPLIED[0], Child("Deployment", "d2", "d1", "ours"))),
        (ApplyChild("Deployment"),),
    ),
    "an-edit-is-rolled-out-even-while-a-node-is-away": (
        served(nodes={}, children=(APPLIED[0], Child("Deployment", "d2", "d1", "ours"))),
        (ApplyChild("Deployment"),),
    ),
    "a-service-that-went-away-is-made-again": (
        served(children=(ABSENT[0], APPLIED[1])),
        (ApplyChild("Service"),),
    ),
    "a-service-without-a-port-is-removed": (
        served(children=(Child("Service", "", "s1", "ours"), APPLIED[1])),
        (RemoveChild("Service"),),
    ),
    "a-service-that-is-not-wanted-is-not-missed": (
        served(children=(Child("Service"), APPLIED[1])),
        (),
    ),
    "a-child-on-its-way-out-is-awaited": (
        served(children=(APPLIED[0], replace(APPLIED[1], found="d0", deleting=True))),
        (),
    ),
    "pods-follow-the-count-down-at-once": (
        served(serving=replace(SERVED, asked=5), nodes={}),
        (Scale(1),),
    ),
    "pods-follow-the-count-up-when-there-are-nodes": (
        served(
            wanted=2,
            claims=(claim(phase="ready"), claim(1, phase="ready")),
            nodes=nodes(node(), node(1)),
        ),
        (Scale(2),),
    ),
    "pods-do-not-wait-for-nodes-that-are-being-made": (
        served(wanted=2, claims=(claim(phase="ready"), claim(1))),
        (),
    ),
    "a-strangers-object-is-left-alone": (
        with_node(children=(Child("Service", "s1", "", "foreign"), ABSENT[1])),
        (),
    ),
    "an-earlier-workspaces-object-is-awaited": (
        with_node(children=(ABSENT[0], Child("Deployment", "d1", "d0", "previous"))),
        (),
    ),
    "a-spread-model-is-made-with-its-services": (
        pair(children=SPREAD_ABSENT),
        (ApplyChild("Service"), ApplyChild("HeadlessService"), ApplyChild("StatefulSet")),
    ),
    "nothing-is-done-when-a-spread-model-serves": (pair(), ()),
    "a-changed-spread-model-goes-as-a-whole": (
        pair(children=(*SPREAD_APPLIED[:3], Child("StatefulSet", "t2", "t1", "ours"))),
        (RemoveChild("StatefulSet", with_pods=True),),
    ),
    "a-spread-model-that-goes-is-awaited": (
        pair(children=(*SPREAD_APPLIED[:3], Child("StatefulSet", "t2", "t1", "ours", True))),
        (),
    ),
    "a-spread-model-serves-on-until-its-third-node-is-there": (
        pair(
            wanted=3,
            claims=(claim(phase="ready"), claim(1, phase="ready"), claim(2)),
            children=(*SPREAD_APPLIED[:3], Child("StatefulSet", "t2", "t1", "ours")),
        ),
        (),
    ),
    "a-spread-model-shrinks-before-its-nodes-go": (
        pair(
            wanted=2,
            claims=(*(claim(slot, phase="ready") for slot in range(3)),),
            nodes=nodes(node(), node(1), node(2)),
            serving=Serving(asked=3, present=3, ready=3, updated=3),
            children=(*SPREAD_APPLIED[:3], Child("StatefulSet", "t2", "t1", "ours")),
        ),
        (RemoveChild("StatefulSet", with_pods=True),),
    ),
    "another-kind-goes-before-its-successor-comes": (
        pair(children=(*SPREAD_ABSENT[:2], DEPLOYED, SPREAD_ABSENT[3])),
        (
            ApplyChild("Service"),
            ApplyChild("HeadlessService"),
            RemoveChild("Deployment", with_pods=True),
        ),
    ),
    "another-kind-serves-on-until-there-are-nodes-for-its-successor": (
        pair(
            claims=(claim(phase="ready"), claim(1)),
            children=(*SPREAD_APPLIED[:2], DEPLOYED, SPREAD_ABSENT[3]),
        ),
        (),
    ),
    "another-kind-on-its-way-out-is-awaited": (
        pair(
            children=(*SPREAD_APPLIED[:2], replace(DEPLOYED, deleting=True), SPREAD_ABSENT[3]),
        ),
        (),
    ),
    "back-to-copies-the-spread-model-and-its-service-go": (
        served(
            children=(
                APPLIED[0],
                Child("HeadlessService", "", "h1", "ours"),
                ABSENT[1],
                STATEFUL,
            )
        ),
        (RemoveChild("HeadlessService"), RemoveChild("StatefulSet", with_pods=True)),
    ),
    "what-awaits-something-costs-nothing": (seen(awaits=MISSING, adoptable=("free-1",)), ()),
    "what-awaits-something-keeps-its-node": (with_node(awaits=MISSING, children=()), ()),
    "what-awaits-something-and-lost-its-node-buys-no-other": (
        served(awaits=MISSING, claims=(), nodes={}),
        (),
    ),
    "what-the-user-wrote-is-judged-before-a-node-is-bought": (
        seen(vetted=False, held=False),
        (Vet(), AddFinalizer(), FIRST),
    ),
    "nothing-is-judged-while-nothing-is-bought": (seen(vetted=False, claims=(claim(),)), ()),
    "what-the-user-wrote-is-judged-before-what-serves-goes": (
        pair(
            vetted=False,
            children=(*SPREAD_APPLIED[:3], Child("StatefulSet", "t2", "t1", "ours")),
        ),
        (Vet(), RemoveChild("StatefulSet", with_pods=True)),
    ),
    "what-cannot-be-served-costs-nothing": (
        seen(problem=Problem("PresetUnknown", "no such preset"), held=False),
        (),
    ),
    "what-cannot-be-served-any-more-is-not-torn-down": (
        served(problem=Problem("PresetUnknown", "no such preset")),
        (),
    ),
    "deletion-removes-children-and-claims-together": (
        served(deleting_since=NOW),
        (
            DeleteClaims((claim(phase="ready"),)),
            RemoveChild("Service"),
            RemoveChild("Deployment"),
        ),
    ),
    "deletion-waits-for-claims-on-their-way-out": (
        seen(deleting_since=NOW, claims=(claim(phase="deleting"),)),
        (),
    ),
    "deletion-does-not-trust-an-empty-cache": (seen(deleting_since=NOW), ()),
    "the-finalizer-goes-last": (
        seen(deleting_since=NOW, claims_are_live=True),
        (RemoveFinalizer(),),
    ),
    "reserved-nodes-are-given-back-at-the-end": (
        seen(deleting_since=NOW, claims_are_live=True, reserved=("node-0",)),
        (ReleaseNodes(("node-0",)), RemoveFinalizer()),
    ),
    "deletion-needs-nothing-when-we-hold-nothing": (
        seen(deleting_since=NOW, held=False, claims_are_live=True),
        (),
    ),
}


@pytest.mark.parametrize("case", ACTIONS)
def test_actions(case: str) -> None:
    observed, expected = ACTIONS[case]
    assert decide(observed).actions == expected


def report_on(observed: Observed) -> Report:
    report = decide(observed).report
    assert report is not None
    return report


PREPARING = claim(phase="preparing", node="node-0", reason="ResourceNotRegistered")

FINDINGS: dict[str, tuple[Observed, str, tuple[str, str] | None]] = {
    "claims-are-pending-while-they-are-made": (
        seen(), "claims", ("pending", "CreateMachinePending"),
    ),
    "nodeclaims-are-pending-under-their-own-reason": (
        seen(claim_kind="NodeClaim"), "claims", ("pending", "CreateNodeClaimPending"),
    ),
    "claims-are-pending-while-they-launch": (
        seen(claims=(claim(reason="PoolCreating", message="m"),)),
        "claims", ("pending", "CreateMachinePending"),
    ),
    "a-claim-without-details-is-pending-too": (
        seen(claims=(claim(),)), "claims", ("pending", "CreateMachinePending"),
    ),
    "silence-is-pending-for-a-minute": (
        seen(claims=(claim(phase="silent", since=ago(seconds=59)),)),
        "claims", ("pending", "CreateMachinePending"),
    ),
    "silence-is-bad-after-a-minute": (
        seen(claims=(claim(phase="silent", since=ago(seconds=60)),)),
        "claims", ("bad", "NoProvisionerAnswer"),
    ),
    "a-launch-is-pending-for-twenty-minutes": (
        seen(claims=(claim(since=ago(minutes=19)),)),
        "claims", ("pending", "CreateMachinePending"),
    ),
    "a-launch-without-an-end-is-bad": (
        seen(claims=(claim(since=ago(minutes=20)),)), "claims", ("bad", "NodeDelayed"),
    ),
    "a-gpu-that-does-not-show-is-said-at-once": (
        seen(claims=(PREPARING,), nodes=nodes(node(gpus=0))),
        "resource", ("pending", "NodePluginsNotReady"),
    ),
    "a-gpu-that-never-shows-is-bad": (
        seen(claims=(replace(PREPARING, since=ago(minutes=10)),), nodes=nodes(node(gpus=0))),
        "resource", ("bad", "NodePluginsNotReady"),
    ),
    "a-gpu-that-is-gone-after-hours-gets-its-time": (
        seen(
            claims=(replace(PREPARING, since=ago(hours=5), caused_at=ago(minutes=9)),),
            nodes=nodes(node(gpus=0)),
        ),
        "resource", ("pending", "NodePluginsNotReady"),
    ),
    "a-provisioner-that-never-calls-a-node-ready-is-bad": (
        seen(claims=(replace(PREPARING, since=ago(minutes=10)),), nodes=nodes(node())),
        "resource", ("bad", "NodeDelayed"),
    ),
    "a-node-that-fell-silent-while-prepared-says-so": (
        seen(
            claims=(replace(PREPARING, since=ago(minutes=10)),), nodes=nodes(node(ready=False)),
        ),
        "resource", ("bad", "NodeNotReady"),
    ),
    "a-provisioners-reason-is-lifted": (
        seen(claims=(claim(verdict="blocked", reason="QuotaExceeded", message="m"),)),
        "claims", ("bad", "QuotaExceeded"),
    ),
    "a-failure-without-a-reason-gets-one": (
        seen(claims=(claim(verdict="blocked"),)), "claims", ("bad", "ClaimFailed"),
    ),
    "the-resource-takes-over-the-claims-reason": (
        seen(claims=(claim(verdict="hopeless", reason="InvalidRequest"),)),
        "resource", ("bad", "InvalidRequest"),
    ),
    "the-worst-claim-speaks": (
        seen(wanted=2, claims=(claim(), claim(1, verdict="blocked", reason="QuotaExceeded"))),
        "claims", ("bad", "QuotaExceeded"),
    ),
    "a-ready-claim-does-not-hide-a-pending-one": (
        seen(wanted=2, claims=(claim(phase="ready"), claim(1)), nodes=nodes(node())),
        "claims", ("pending", "CreateMachinePending"),
    ),
    "a-lost-claim-is-said": (
        seen(records=(record(),)), "claims", ("pending", "ClaimLost"),
    ),
    "a-pause-is-said": (
        seen(records=(record(failures=1, lost_at=ago(seconds=3)),)),
        "claims", ("pending", "ClaimLost"),
    ),
    "a-claim-on-its-way-out-is-said": (
        seen(claims=(claim(phase="deleting"),)), "claims", ("pending", "ClaimLost"),
    ),
    "a-second-loss-in-a-row-is-bad": (
        seen(claims=(claim(phase="deleting"),), records=(record(failures=1),)),
        "claims", ("bad", "ClaimLost"),
    ),
    "a-loss-keeps-its-cause": (
        seen(claims=(claim(phase="deleting", verdict="blocked", reason="InsufficientCapacity"),)),
        "claims", ("bad", "InsufficientCapacity"),
    ),
    "a-cause-is-told-until-the-next-claim-speaks": (
        seen(records=(replace(record(), reason="InsufficientCapacity", message="none left"),)),
        "claims", ("bad", "InsufficientCapacity"),
    ),
    "a-node-that-never-joined-is-said": (
        seen(claims=(claim(phase="joining", since=ago(minutes=20)),)),
        "claims", ("bad", "NodeNeverJoined"),
    ),
    "a-dropped-broken-claim-keeps-its-reason": (
        seen(
            claims=(claim(verdict="broken", reason="NodeBootstrapFailed", since=ago(hours=1)),)
        ),
        "claims", ("bad", "NodeBootstrapFailed"),
    ),
    "ready-claims-are-good": (with_node(), "claims", ("good", "installNodePluginsSuccess")),
    "ready-nodeclaims-are-good": (
        with_node(claims=(claim(phase="ready", kind="NodeClaim"),)),
        "claims", ("good", "NodeClaimsReady"),
    ),
    "no-claims-no-condition": (
        seen(reserved=("node-0",), nodes=nodes(node())), "claims", None,
    ),
    "no-api-no-nodes": (seen(claim_kind=None), "resource", ("bad", "ClaimApiNotServed")),
    "too-few-own-nodes": (
        seen(claim_kind=None, byo=True), "resource", ("bad", "NoFreeNode"),
    ),
    "own-nodes-being-reserved": (
        seen(claim_kind=None, byo=True, adoptable=("a",)),
        "resource", ("pending", "workspaceResourceStatusNotReady"),
    ),
    "a-late-node-is-pending": (
        with_node(nodes={}), "resource", ("pending", "NodeNotFound"),
    ),
    "a-missing-node-is-bad": (
        with_node(claims=(claim(phase="ready", since=ago(minutes=1)),), nodes={}),
        "resource", ("bad", "NodeNotFound"),
    ),
    "a-node-that-stopped-is-bad": (
        with_node(nodes=nodes(node(ready=False, trouble="KubeletStopped"))),
        "resource", ("bad", "NodeNotReady"),
    ),
    "a-reserved-node-that-stopped-is-bad": (
        seen(reserved=("node-0",), nodes=nodes(node(ready=False))),
        "resource", ("bad", "NodeNotReady"),
    ),
    "a-node-without-gpu-is-pending": (
        with_node(nodes=nodes(node(gpus=0))), "resource", ("pending", "NodePluginsNotReady"),
    ),
    "all-nodes-there-is-good": (
        with_node(), "resource", ("good", "workspaceResourceStatusSuccess"),
    ),
    "inference-waits-for-nodes": (
        seen(), "inference", ("pending", "WorkspaceInferenceStatusPending"),
    ),
    "inference-waits-for-its-deployment": (
        with_node(), "inference", ("pending", "WorkspaceInferenceStatusPending"),
    ),
    "inference-is-good-when-pods-are-ready": (
        served(), "inference", ("good", "WorkspaceInferenceStatusSuccess"),
    ),
    "inference-waits-for-pods": (
        served(serving=replace(SERVED, ready=0), loading="pod a loads the model"),
        "inference", ("pending", "WorkspaceInferenceStatusPending"),
    ),
    "inference-waits-quietly-without-pods": (
        served(serving=replace(SERVED, ready=0)),
        "inference", ("pending", "WorkspaceInferenceStatusPending"),
    ),
    "old-pods-do-not-count": (
        served(serving=replace(SERVED, updated=0)),
        "inference", ("pending", "WorkspaceInferenceStatusPending"),
    ),
    "an-unseen-spec-does-not-count": (
        served(serving=replace(SERVED, current=False)),
        "inference", ("pending", "WorkspaceInferenceStatusPending"),
    ),
    "pod-trouble-is-lifted": (
        served(serving=replace(SERVED, ready=0), pods=(PodTrouble("ImagePullError", "m"),)),
        "inference", ("bad", "ImagePullError"),
    ),
    "a-pod-without-a-place-is-lifted": (
        served(serving=replace(SERVED, ready=0), pods=(PodTrouble("Unschedulable", "m"),)),
        "inference", ("bad", "Unschedulable"),
    ),
    "a-pod-waits-quietly-while-its-node-is-made": (
        served(
            claims=(claim(),), serving=replace(SERVED, ready=0),
            pods=(PodTrouble("Unschedulable", "m"),),
        ),
        "inference", ("pending", "WorkspaceInferenceStatusPending"),
    ),
    "trouble-of-a-spare-pod-does-not-matter": (
        served(pods=(PodTrouble("ImagePullError", "m"),)),
        "inference", ("good", "WorkspaceInferenceStatusSuccess"),
    ),
    "refused-pods-are-said": (
        served(serving=Serving(asked=1, refusal="exceeded quota")),
        "inference", ("bad", "PodsRefused"),
    ),
    "a-taken-name-is-said": (
        with_node(children=(Child("Service", "s1", "", "foreign"), ABSENT[1])),
        "inference", ("bad", "NameTaken"),
    ),
    "an-earlier-workspaces-child-is-said": (
        with_node(children=(ABSENT[0], Child("Deployment", "d1", "d0", "previous"))),
        "inference", ("pending", "WorkspaceInferenceStatusPending"),
    ),
    "the-whole-is-good-when-both-are": (served(), "workspace", ("good", "workspaceReady")),
    "the-whole-is-pending-with-a-part": (seen(), "workspace", ("pending", "workspacePending")),
    "the-whole-fails-with-a-part": (
        served(serving=replace(SERVED, ready=0), pods=(PodTrouble("ImagePullError", "m"),)),
        "workspace", ("bad", "workspaceFailed"),
    ),
    "the-whole-fails-with-its-nodes": (
        served(nodes=nodes(node(ready=False))), "workspace", ("bad", "workspaceFailed"),
    ),
    "a-problem-is-the-resources": (
        seen(problem=Problem("PresetUnknown", "m")), "resource", ("bad", "PresetUnknown"),
    ),
    "a-problem-fails-the-whole": (
        seen(problem=Problem("PresetUnknown", "m")), "workspace", ("bad", "workspaceFailed"),
    ),
    "what-is-awaited-is-said-where-it-belongs": (
        seen(awaits=MISSING), "inference", ("bad", "InferenceConfigNotReady"),
    ),
    "no-node-is-pending-for-what-is-awaited": (
        seen(awaits=MISSING), "resource", ("pending", "workspaceResourceStatusNotReady"),
    ),
    "what-serves-is-ready-though-something-is-missing-now": (
        served(awaits=MISSING), "inference", ("good", "WorkspaceInferenceStatusSuccess"),
    ),
    "what-does-not-serve-says-what-is-missing": (
        served(awaits=MISSING, serving=replace(SERVED, ready=0)),
        "inference", ("pending", "InferenceConfigNotReady"),
    ),
    "a-change-of-kind-is-pending": (
        pair(children=(*SPREAD_APPLIED[:2], DEPLOYED, SPREAD_ABSENT[3])),
        "inference", ("pending", "WorkspaceInferenceStatusPending"),
    ),
    "a-spread-model-that-is-made-anew-is-pending": (
        pair(children=(*SPREAD_APPLIED[:3], Child("StatefulSet", "t2", "t1", "ours", True))),
        "inference", ("pending", "WorkspaceInferenceStatusPending"),
    ),
    "a-strangers-headless-service-is-named": (
        pair(children=(SPREAD_ABSENT[0], replace(SPREAD_ABSENT[1], owner="foreign"))),
        "inference", ("bad", "NameTaken"),
    ),
    "deletion-is-said": (
        seen(deleting_since=NOW, claims=(claim(),)), "deleting", ("good", "workspaceDeleted"),
    ),
    "late-deletion-is-said": (
        seen(deleting_since=ago(minutes=15), claims=(claim(),)),
        "deleting", ("good", "DeletionDelayed"),
    ),
    "what-is-being-deleted-is-not-ready": (
        seen(deleting_since=NOW, claims=(claim(),)), "workspace", ("pending", "workspaceDeleted"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FINDINGS)
def test_findings(case: str) -> None:
    observed, aspect, expected = FINDINGS[case]
    finding: Finding | None = getattr(report_on(observed), aspect)
    assert (finding and (finding.outlook, finding.reason)) == expected


ALARMS: dict[str, tuple[Observed, float | None]] = {
    "nothing-to-wait-for": (served(), None),
    "the-pause-before-another-attempt": (
        seen(records=(record(failures=2, lost_at=ago(seconds=3)),)), 7.0,
    ),
    "the-end-of-a-broken-claims-grace": (
        seen(claims=(claim(verdict="broken", since=ago(minutes=9)),)), 60.0,
    ),
    "the-deadline-for-launching": (seen(claims=(claim(since=ago(minutes=19)),)), 60.0),
    "the-deadline-for-the-gpu": (
        seen(claims=(replace(PREPARING, since=ago(minutes=9)),)), 60.0,
    ),
    "the-deadline-for-joining": (
        seen(claims=(claim(phase="joining", since=ago(minutes=19)),)), 60.0,
    ),
    "the-end-of-polite-silence": (
        seen(claims=(claim(phase="silent", since=ago(seconds=20)),)), 40.0,
    ),
    "silence-that-is-over-needs-no-alarm": (
        seen(claims=(claim(phase="silent", since=ago(seconds=90)),)), None,
    ),
    "the-arrival-of-a-late-node": (
        with_node(claims=(claim(phase="ready", since=ago(seconds=10)),), nodes={}), 20.0,
    ),
    "a-clean-slate": (
        served(records=(record(failures=2),), claims=(claim(phase="ready", since=ago(minutes=4)),)),
        360.0,
    ),
    "what-no-watch-shows": (served(look_again=30.0), 30.0),
    "what-no-watch-shows-or-something-earlier": (
        seen(look_again=30.0, claims=(claim(since=ago(minutes=19, seconds=50)),)), 10.0,
    ),
    "what-is-awaited": (seen(awaits=MISSING), SHORTAGE_CHECK),
    "a-free-node": (seen(claim_kind=None, byo=True), SHORTAGE_CHECK),
    "the-end-of-claims": (seen(deleting_since=NOW, claims=(claim(),)), GONE_CHECK),
    "a-look-at-the-real-claims": (seen(deleting_since=NOW), GONE_CHECK),
    "the-earliest-of-several": (
        seen(
            wanted=2,
            claims=(
                claim(phase="joining", since=ago(minutes=19)),
                claim(1, phase="silent", since=ago(seconds=20)),
            ),
        ),
        40.0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ALARMS)
def test_looks_again_for(case: str) -> None:
    observed, expected = ALARMS[case]
    assert decide(observed).look_again == expected


RECORDS: dict[str, tuple[Observed, SlotRecord]] = {
    "a-new-claim": (seen(), record()),
    "a-living-claim-forgets-its-loss": (
        seen(claims=(claim(attempt=1),), records=(record(failures=1, lost_at=ago(hours=1)),)),
        record(attempt=1, failures=1),
    ),
    "a-healthy-claim-wipes-the-slate": (
        served(
            claims=(claim(phase="ready", since=ago(minutes=11)),), records=(record(failures=3),)
        ),
        record(),
    ),
    "a-loss-is-counted-once": (
        seen(claims=(claim(phase="deleting"),), records=(record(),)),
        record(failures=1, lost_at=NOW),
    ),
    "a-counted-loss-keeps-its-time": (
        seen(
            claims=(claim(phase="deleting"),),
            records=(record(failures=1, lost_at=ago(seconds=9)),),
        ),
        record(failures=1, lost_at=ago(seconds=9)),
    ),
    "a-dropped-claim-is-a-loss": (
        seen(claims=(claim(verdict="broken", since=ago(hours=1)),)),
        record(failures=1, lost_at=NOW),
    ),
    "a-dropped-claim-that-a-cache-still-shows-is-counted-once": (
        seen(
            claims=(claim(verdict="broken", since=ago(hours=1)),),
            records=(record(failures=1, lost_at=ago(seconds=1)),),
        ),
        record(failures=1, lost_at=ago(seconds=1)),
    ),
    "what-the-slot-lost-before-is-no-loss-of-its-next-claim": (
        seen(
            claims=(claim(attempt=1, verdict="broken", since=ago(hours=1)),),
            records=(record(failures=1, lost_at=ago(minutes=9)),),
        ),
        record(attempt=1, failures=2, lost_at=NOW),
    ),
    "a-node-that-never-joined-is-remembered-as-such": (
        seen(claims=(claim(phase="joining", since=ago(minutes=20)),)),
        replace(record(failures=1, lost_at=NOW), reason="NodeNeverJoined"),
    ),
    "what-awaits-something-remembers-its-failures": (
        seen(awaits=MISSING, records=(record(failures=2, lost_at=ago(minutes=1)),)),
        record(failures=2, lost_at=ago(minutes=1)),
    ),
    "the-next-attempt-remembers-failures": (
        seen(records=(record(failures=2, lost_at=ago(minutes=1)),)),
        record(attempt=1, failures=2),
    ),
    "a-failed-claim-leaves-its-cause": (
        seen(
            claims=(claim(phase="deleting", verdict="blocked", reason="R", message="m"),),
            records=(record(),),
        ),
        replace(record(failures=1, lost_at=NOW), reason="R", message="m"),
    ),
    "the-next-attempt-remembers-the-cause": (
        seen(records=(replace(record(), reason="R", message="m"),)),
        replace(record(attempt=1, failures=1), reason="R", message="m"),
    ),
    "a-later-attempt-on-its-way-out-counts": (
        seen(
            claims=(claim(phase="deleting", attempt=2), claim(phase="deleting", attempt=1)),
            records=(record(),),
        ),
        replace(record(failures=1, lost_at=NOW), attempt=2),
    ),
}


@pytest.mark.parametrize("case", RECORDS)
def test_slot_records(case: str) -> None:
    observed, expected = RECORDS[case]
    assert report_on(observed).records == (expected,)


def test_pauses_double_up_to_ten_minutes() -> None:
    seconds = [back_off(failures).total_seconds() for failures in (0, 1, 2, 3, 4, 8, 100)]
    assert seconds == [0, 0, 10, 20, 40, 600, 600]


def test_claim_names_tell_slots_and_attempts_apart() -> None:
    names = {claim_name(uid, s, a) for uid in ("a", "b") for s in range(20) for a in range(20)}
    assert len(names) == 800
    assert all(len(name) == 11 and name.startswith("ws") for name in names)


def test_messages_hold_no_running_clock() -> None:
    early = seen(claims=(claim(since=ago(seconds=5)),))
    late = replace(early, now=NOW + timedelta(seconds=30))
    assert decide(early).report == decide(late).report


def test_the_nodes_in_use_are_sorted() -> None:
    observed = served(
        wanted=2,
        claims=(claim(phase="ready", node="b"), claim(1, phase="ready", node="a")),
        nodes=nodes(node(name="a"), node(name="b")),
    )
    assert report_on(observed).nodes == ("a", "b")
