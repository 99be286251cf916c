"""Turns what was seen into sentences: what is the matter, with which value, and what to do.

Invariant: a message never holds a running clock, so an unchanged state is an unchanged message and
costs no write.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from workspace_controller.workspaces import reasons
from workspace_controller.workspaces.facts import (
    Claim,
    ClaimKind,
    ClaimPhase,
    Finding,
    Node,
    Observed,
    Problem,
)
from workspace_controller.workspaces.slots import Slot

ANSWER_DEADLINE: Final = timedelta(seconds=60)
"""A provisioner that lives shows it on a claim within seconds."""
LAUNCH_DEADLINE: Final = timedelta(minutes=20)
"""Provisioners give up a launch after 15 minutes, and say so."""
PREPARE_DEADLINE: Final = timedelta(minutes=10)
"""A driver is installed and its GPU shown within minutes of a node's joining."""
NODE_GRACE: Final = timedelta(seconds=30)
"""A ready claim's node may reach us later than the claim."""


def kind_in_use(seen: Observed) -> ClaimKind:
    """The kind of claim to speak of: that of the claims there are, else the one to create."""
    kinds = sorted(claim.kind for claim in seen.claims if claim.live)
    return kinds[0] if kinds else (seen.claim_kind or "Machine")


def on_claims(seen: Observed, slots: tuple[Slot, ...]) -> Finding:
    """The state of all claims together; the worst one speaks."""
    kind = kind_in_use(seen)
    ready = sum(slot.claim is not None and slot.claim.phase == "ready" for slot in slots)
    count = f"{ready} of {len(slots)} {kind}s ready"
    if ready == len(slots):
        good = reasons.MACHINES_READY if kind == "Machine" else reasons.NODECLAIMS_READY
        return Finding("good", good, count)

    worst = min((_on_slot(seen, slot, kind) for slot in slots), key=_rank)
    return Finding(worst.outlook, worst.reason, f"{count}. {worst.message}")


def turns_bad_at(seen: Observed, slot: Slot) -> datetime | None:
    """When waiting for a claim or its node starts to mean trouble; None if nothing is awaited."""
    claim = slot.claim
    if claim is None:
        return None
    if claim.phase == "ready":
        return None if claim.node in seen.nodes else claim.since + NODE_GRACE
    if claim.verdict != "progress" or claim.phase not in _DEADLINES:
        return None
    return _waiting_since(claim) + _DEADLINES[claim.phase]


def _waiting_since(claim: Claim) -> datetime:
    """Since when nothing has moved; a node that served may be prepared a second time."""
    return max(claim.since, claim.caused_at or claim.since)


_DEADLINES: Final[dict[ClaimPhase, timedelta]] = {
    "silent": ANSWER_DEADLINE,
    "launching": LAUNCH_DEADLINE,
    "preparing": PREPARE_DEADLINE,
}


def on_preparation(seen: Observed, slots: Iterable[Slot]) -> Finding | None:
    """What a node that has joined still lacks; None when no claim waits for such a node."""
    waiting = [slot.claim for slot in slots if slot.claim and slot.claim.phase == "preparing"]
    nodes = (seen.nodes[claim.node] for claim in waiting if claim.node in seen.nodes)
    found = (_on_plugins(seen, node) for node in nodes if node.ready)
    return next((each for each in found if each is not None), None)


def on_nodes(seen: Observed, reserved: Iterable[str], slots: Iterable[Slot]) -> Finding | None:
    """The first thing that is wrong with a node in use; None when all are well.

    Every slot must hold a ready claim.
    """
    names = list(reserved)
    for slot in slots:
        claim = slot.claim
        assert claim is not None
        if claim.node not in seen.nodes:
            return Finding(
                "bad" if seen.now - claim.since >= NODE_GRACE else "pending",
                reasons.NODE_NOT_FOUND,
                f"{claim.kind} {claim.name} is ready, but its node {claim.node or '(unnamed)'} is "
                f"not there. If it was deleted, delete the {claim.kind} too: it is replaced.",
            )
        names.append(claim.node)
    troubles = (_on_node(seen, seen.nodes[name]) for name in names)
    return next((trouble for trouble in troubles if trouble is not None), None)


def _on_node(seen: Observed, node: Node) -> Finding | None:
    if not node.ready:
        return Finding("bad", reasons.NODE_NOT_READY, f"node {node.name}: {node.trouble}")
    return _on_plugins(seen, node)


def _on_plugins(seen: Observed, node: Node) -> Finding | None:
    if node.gpus < seen.gpus:
        return Finding(
            "pending",
            reasons.NODE_PLUGINS_NOT_READY,
            f"node {node.name} offers {node.gpus} of {seen.gpus} nvidia.com/gpu. The NVIDIA "
            "driver and device plugin must run there: kubectl get pods -A -o wide "
            f"--field-selector spec.nodeName={node.name}",
        )
    return None


def on_lack(seen: Observed) -> Finding:
    """There are fewer nodes than wanted, and none is asked for."""
    if seen.awaits is not None:
        return _on_waiting(seen.awaits)
    return _on_shortage(seen) if seen.byo else _on_no_claim_api()


def _on_shortage(seen: Observed) -> Finding:
    """Too few nodes, in a cluster where the user brings them."""
    return Finding(
        "bad",
        reasons.NO_FREE_NODE,
        f"{len(seen.reserved)} of {seen.wanted} nodes found. A node serves when it carries the "
        "labels of resource.labelSelector (and resource.instanceType, if given), is Ready and "
        f"schedulable, offers {seen.gpus} nvidia.com/gpu, carries no taint that the pods do not "
        "tolerate, and belongs to no other Workspace.",
    )


def _on_waiting(awaits: Problem) -> Finding:
    """Nodes are not asked for, because what is to run on them is not known yet."""
    return Finding(
        "pending",
        reasons.RESOURCE_PENDING,
        f"no node is asked for before this is there: {awaits.message}",
    )


def _on_no_claim_api() -> Finding:
    """The cluster serves neither kind of claim."""
    return Finding(
        "bad",
        reasons.CLAIM_API_NOT_SERVED,
        "the cluster serves neither machines.karpenter.sh/v1alpha5 nor "
        "nodeclaims.karpenter.sh/v1. Install the gpu-provisioner chart or Karpenter, or set "
        "nodeProvisioner.claimApi=byo to use nodes of your own.",
    )


def on_ready_nodes(nodes: Iterable[Node]) -> Finding:
    """All nodes are there."""
    names = ", ".join(sorted(node.name for node in nodes))
    return Finding("good", reasons.RESOURCE_SUCCESS, f"nodes in use: {names}")


def _on_slot(seen: Observed, slot: Slot, kind: ClaimKind) -> Finding:
    pending = reasons.MACHINE_PENDING if kind == "Machine" else reasons.NODECLAIM_PENDING
    if slot.claim is not None:
        return _on_claim(seen, slot.claim, pending, drop=slot.drop)
    if slot.order is not None and not slot.order.attempt:
        return Finding("pending", pending, f"{kind} {slot.record.claim} is being created.")
    return _on_loss(slot, kind)


def _on_loss(slot: Slot, kind: ClaimKind) -> Finding:
    """An empty slot: a loss with a cause, or the second in a row, is for a person to see."""
    record = slot.record
    if slot.leaving is not None:
        next_step = f"{kind} {slot.leaving.name} is being removed, then another is made."
    elif slot.order is not None:
        next_step = "Another is being made."
    else:
        next_step = "Another is made after a pause."
    cause = f" Its cause: {record.message}" if record.message else ""
    return Finding(
        "bad" if record.reason or record.failures > 1 else "pending",
        record.reason or reasons.CLAIM_LOST,
        f"slot {slot.number} lost its {kind}, failure {record.failures} in a row. "
        f"{next_step}{cause}",
    )


def _on_claim(seen: Observed, claim: Claim, pending: str, *, drop: bool) -> Finding:
    who = f"{claim.kind} {claim.name}"
    if claim.phase == "ready":
        return Finding("good", pending)
    if drop and claim.verdict == "progress":
        return Finding(
            "bad",
            reasons.NODE_NEVER_JOINED,
            f"{who} was launched, but no node joined the cluster: it is replaced.",
        )
    if claim.verdict != "progress":
        return Finding(
            "bad",
            claim.reason or reasons.CLAIM_FAILED,
            f"{who}: {claim.message or 'no cause was given'} {_ADVICE[claim.verdict]}",
        )
    if claim.phase == "silent":
        if seen.now - claim.since < ANSWER_DEADLINE:
            return Finding("pending", pending, f"{who} waits for its provisioner.")
        return Finding(
            "bad",
            reasons.NO_PROVISIONER_ANSWER,
            f"no provisioner has answered {who}. Check that one runs and serves "
            f"{claim.kind}s: kubectl get pods -n gpu-provisioner",
        )
    detail = ": ".join(part for part in (claim.reason, claim.message) if part)
    doing = f"{who} is {claim.phase}" + (f" ({detail})" if detail else "")
    overdue = claim.phase in _DEADLINES and (
        seen.now - _waiting_since(claim) >= _DEADLINES[claim.phase]
    )
    return _on_delay(seen, claim, doing) if overdue else Finding("pending", pending, doing)


def _on_delay(seen: Observed, claim: Claim, doing: str) -> Finding:
    """A claim whose provisioner has been silent, or at the same thing, for too long."""
    node = seen.nodes.get(claim.node)
    trouble = _on_node(seen, node) if node is not None else None
    if trouble is not None:
        return replace(trouble, outlook="bad")
    since = _waiting_since(claim).strftime("%Y-%m-%d %H:%M:%S UTC")
    return Finding(
        "bad",
        reasons.NODE_DELAYED,
        f"{doing}, and nothing has moved since {since}. Check that its provisioner runs, and what "
        "its log says: kubectl get pods -n gpu-provisioner",
    )


_ADVICE: Final = {
    "blocked": "The provisioner keeps trying.",
    "broken": "It is replaced if its provisioner cannot mend it.",
    "hopeless": "It is not tried again: choose another instanceType, or delete it after a change.",
}
_ORDER: Final = {"bad": 0, "unknown": 1, "pending": 2, "good": 3}


def _rank(finding: Finding) -> int:
    return _ORDER[finding.outlook]
