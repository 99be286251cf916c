"""Decides what one pass does for a Workspace: pure, total, without clock or logger.

Invariant: every action is safe to repeat, and the finalizer goes only after the API server itself,
not a cache, has said that no claim is left.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from workspace_controller.claims.wording import BRIEF_LIMIT, brief
from workspace_controller.tuning import plan as tuning
from workspace_controller.tuning.facts import Tuning
from workspace_controller.workspaces import findings, reasons, serving
from workspace_controller.workspaces.attempts import history
from workspace_controller.workspaces.facts import (
    Action,
    AddFinalizer,
    Attempt,
    Claim,
    CreateClaims,
    DeleteClaims,
    Finding,
    LabelNode,
    Node,
    Observed,
    Plan,
    ReleaseNodes,
    RemoveChild,
    RemoveFinalizer,
    Report,
    ReserveNode,
    SlotRecord,
    Vet,
    VetRun,
)
from workspace_controller.workspaces.slots import GONE_CHECK, Slots, assign, pods_on

DELETION_IS_LATE: Final = timedelta(minutes=15)
SHORTAGE_CHECK: Final = 30.0
"""Seconds between two looks for a free node."""


@dataclass(frozen=True)
class _Supply:
    """The node side of a pass."""

    actions: tuple[Action, ...]
    claims: Finding | None
    resource: Finding
    nodes: tuple[str, ...] = ()
    records: tuple[SlotRecord, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    look_again: float | None = None


def decide(seen: Observed) -> Plan:
    """The plan for what was seen."""
    if seen.deleting_since is not None:
        return _tear_down(seen)
    if seen.tuning is not None:
        early = tuning.before_nodes(seen, seen.tuning)
        if early is not None:
            return early
    if seen.problem is not None:
        return _refuse(seen)
    hold: tuple[Action, ...] = () if seen.held else (AddFinalizer(),)
    supply = _supply(seen)
    if seen.tuning is not None:
        return _tune(seen, supply, hold, seen.tuning)
    serve = serving.serve(seen, supply.resource)
    inference = serving.inference(seen, supply.resource)
    return Plan(
        actions=(*_vet(seen, supply.actions + serve), *hold, *supply.actions, *serve),
        report=Report(
            claims=supply.claims,
            claims_gone=supply.claims is None,
            claim_kind=findings.kind_in_use(seen),
            resource=supply.resource,
            inference=inference,
            workspace=_whole(seen, supply.resource, inference),
            nodes=supply.nodes,
            records=supply.records,
            attempts=supply.attempts,
        ),
        look_again=min((t for t in (supply.look_again, seen.look_again) if t), default=None),
    )


def _tune(seen: Observed, supply: _Supply, hold: tuple[Action, ...], run: Tuning) -> Plan:
    """The plan for a run that has not ended."""
    step = tuning.advance(seen, run, supply.resource)
    buys = any(isinstance(each, CreateClaims) for each in supply.actions)
    vet = (VetRun(run.wanted, run.output),) if buys and not seen.vetted else ()
    alarms = [each for each in (supply.look_again, step.look_again) if each is not None]
    return Plan(
        actions=(*vet, *hold, *supply.actions, *step.actions),
        report=Report(
            claims=supply.claims,
            claims_gone=supply.claims is None,
            claim_kind=findings.kind_in_use(seen),
            resource=supply.resource,
            inference=step.inference,
            workspace=_whole(seen, supply.resource, step.inference),
            nodes=supply.nodes,
            records=supply.records,
            attempts=supply.attempts,
            started=step.started,
            state=step.state,
            run=step.record,
        ),
        look_again=min(alarms, default=None),
    )


def _vet(seen: Observed, actions: Iterable[Action]) -> tuple[Action, ...]:
    """The API server's word comes before what costs money or takes away what serves."""
    grave = any(
        isinstance(each, CreateClaims) or (isinstance(each, RemoveChild) and each.with_pods)
        for each in actions
    )
    return (Vet(),) if grave and not seen.vetted else ()


# ---- the end ----


def _tear_down(seen: Observed) -> Plan:
    if not seen.held:
        return Plan()
    if seen.claims:
        return _wait_for_claims(seen)
    if not seen.claims_are_live:
        return Plan(look_again=GONE_CHECK)
    release = (ReleaseNodes(seen.reserved),) if seen.reserved else ()
    return Plan(
        actions=(*_remove_children(seen), *release, RemoveFinalizer()),
        report=_ending(
            Finding("good", reasons.DELETED, "its claims are gone; what is left is being removed")
        ),
    )


def _wait_for_claims(seen: Observed) -> Plan:
    assert seen.deleting_since is not None
    going = tuple(claim for claim in seen.claims if claim.live)
    names = ", ".join(sorted(f"{claim.kind} {claim.name}" for claim in seen.claims))
    late = seen.now - seen.deleting_since >= DELETION_IS_LATE
    message = f"waiting until the provisioner has removed {names}"
    if late:
        message += (
            "; it takes longer than 15 minutes: look at its conditions and the provisioner's log"
        )
    end = Finding("good", reasons.DELETION_DELAYED if late else reasons.DELETED, message)
    return Plan(
        # What costs money goes first, whatever happens to the rest.
        actions=(*((DeleteClaims(going),) if going else ()), *_remove_children(seen)),
        report=_ending(end),
        look_again=GONE_CHECK,
    )


def _ending(end: Finding) -> Report:
    """Nothing of what is being taken away may be called ready, however long that takes."""
    gone = Finding("pending", reasons.DELETED, "the Workspace is being deleted")
    return Report(workspace=gone, resource=gone, inference=gone, deleting=end)


def _remove_children(seen: Observed) -> tuple[Action, ...]:
    return tuple(
        RemoveChild(child.kind)
        for child in seen.children
        if child.owner == "ours" and not child.deleting
    )


def _refuse(seen: Observed) -> Plan:
    """Nothing is done for a spec that cannot be served, and nothing that serves is taken away."""
    assert seen.problem is not None
    bad = Finding("bad", seen.problem.reason, seen.problem.message)
    served = None if seen.tuning is not None else serving.refused(seen, bad, seen.problem)
    whole = _sum_of(bad, reasons.RESOURCE_READY)
    return Plan(report=Report(resource=bad, inference=served, workspace=whole))


# ---- nodes ----


def _supply(seen: Observed) -> _Supply:
    """Covers the wanted number with reserved nodes first, free nodes next, claims for the rest."""
    taken = _reserved_by_use(seen)
    reserved, beyond = taken[: seen.wanted], taken[seen.wanted :]
    shortage = seen.wanted - len(reserved) - sum(claim.live for claim in seen.claims)
    adopted = seen.adoptable[: max(0, shortage)] if seen.awaits is None else ()
    rest = seen.wanted - len(reserved) - len(adopted)
    slots = assign(seen, rest)
    claims = [slot.claim for slot in slots.filled if slot.claim is not None]
    names = [*reserved, *(claim.node for claim in claims if claim.phase == "ready")]
    usable = [
        seen.nodes[name]
        for name in names
        if name in seen.nodes and seen.nodes[name].ready and seen.nodes[name].gpus >= seen.gpus
    ]
    return _Supply(
        actions=(
            *_reservations(seen, adopted, beyond),
            *_claim_actions(seen, slots),
            *_labels(seen, [*reserved, *(claim.node for claim in claims)]),
        ),
        claims=findings.on_claims(seen, slots.filled) if slots.filled else None,
        resource=_resource(seen, slots, rest, reserved, usable),
        nodes=tuple(sorted(node.name for node in usable)),
        records=_records(seen, slots),
        attempts=history(seen, [slot.order for slot in slots.filled if slot.order is not None]),
        look_again=_supply_alarm(seen, slots, rest),
    )


def _records(seen: Observed, slots: Slots) -> tuple[SlotRecord, ...]:
    """Of a slot that is left empty while something is awaited, the history is kept as it is."""
    records = [slot.record for slot in slots.filled]
    if seen.awaits is not None:
        filled = {record.slot for record in records}
        records += [record for record in seen.records if record.slot not in filled]
    return tuple(sorted(records, key=lambda record: record.slot))


def _reserved_by_use(seen: Observed) -> tuple[str, ...]:
    """Existing nodes that were taken, those with pods first: the idle ones are given back."""
    return tuple(sorted(seen.reserved, key=lambda name: (not _living_pods(seen, name), name)))


def _living_pods(seen: Observed, node: str) -> int:
    return seen.nodes[node].pods if node in seen.nodes else 0


def _reservations(
    seen: Observed, adopted: tuple[str, ...], beyond: tuple[str, ...]
) -> list[Action]:
    """Another takes a node as soon as it is given back, so no pod of ours may be on it."""
    actions: list[Action] = [ReserveNode(name) for name in adopted]
    idle = tuple(name for name in beyond if not _living_pods(seen, name))
    if idle and seen.serving.present <= seen.wanted:
        actions.append(ReleaseNodes(idle))
    return actions


def _claim_actions(seen: Observed, slots: Slots) -> list[Action]:
    """Removals before creations, so that no extra node is bought for a moment."""
    actions: list[Action] = []
    dropped = tuple(slot.claim for slot in slots.filled if slot.drop and slot.claim is not None)
    surplus = tuple(claim for claim in slots.surplus if _may_leave(seen, claim))
    going = slots.duplicates + dropped + surplus
    if going:
        actions.append(DeleteClaims(going))
    orders = tuple(slot.order for slot in slots.filled if slot.order is not None)
    if orders:
        assert seen.claim_kind is not None
        actions.append(CreateClaims(seen.claim_kind, orders))
    return actions


def _may_leave(seen: Observed, claim: Claim) -> bool:
    """Whether a claim beyond need may go now: a node that serves waits until pods have gone.

    Where pods went is for the workload to choose: which node is idle then shows on the nodes.
    """
    idle = claim.phase != "ready" and not pods_on(seen, claim)
    return idle or seen.serving.present <= seen.wanted


def _labels(seen: Observed, names: Iterable[str]) -> list[Action]:
    """Before the GPU shows: a device plugin may choose its nodes by this very label."""
    return [
        LabelNode(name) for name in names if name in seen.nodes and not seen.nodes[name].labelled
    ]


def _resource(
    seen: Observed, slots: Slots, rest: int, reserved: tuple[str, ...], usable: list[Node]
) -> Finding:
    if len(slots.filled) < rest:
        return findings.on_lack(seen)
    claims = findings.on_claims(seen, slots.filled)
    if claims.outlook != "good":
        preparing = findings.on_preparation(seen, slots.filled)
        if claims.outlook == "pending" and preparing is not None:
            return preparing
        return replace(claims, message=claims.brief)
    trouble = findings.on_nodes(seen, reserved, slots.filled)
    if trouble is not None:
        return trouble
    if len(usable) < seen.wanted:
        return Finding("pending", reasons.RESOURCE_PENDING, "existing nodes are being reserved")
    return findings.on_ready_nodes(usable)


def _supply_alarm(seen: Observed, slots: Slots, rest: int) -> float | None:
    """Seconds until something that no event announces may be due."""
    alarms = [slot.look_again for slot in slots.filled if slot.look_again is not None]
    if len(slots.filled) < rest:
        alarms.append(SHORTAGE_CHECK)
    for slot in slots.filled:
        due = findings.turns_bad_at(seen, slot)
        if due is not None and due > seen.now:
            alarms.append((due - seen.now).total_seconds())
    return min(alarms, default=None)


# ---- the whole ----


def _whole(seen: Observed, resource: Finding, inference: Finding) -> Finding:
    if resource.outlook == inference.outlook == "good":
        return Finding("good", reasons.WORKSPACE_IS_READY, seen.address)
    aspects = ((resource, reasons.RESOURCE_READY), (inference, reasons.INFERENCE_READY))
    lacking = [each for each in aspects if each[0].outlook != "good"]
    return _sum_of(*min(lacking, key=lambda each: each[0].outlook != "bad"))


def _sum_of(finding: Finding, aspect: str) -> Finding:
    """What is not good, as the whole Workspace's condition tells it."""
    reason = reasons.FAILED if finding.outlook == "bad" else reasons.PENDING
    message = f"{aspect}: {brief(finding.brief or finding.message, BRIEF_LIMIT, aspect)}"
    return Finding(finding.outlook, reason, message)
