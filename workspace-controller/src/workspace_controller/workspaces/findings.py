"""Turns what was seen into sentences: what is the matter, with which value, and what to do.

Invariant: a message never holds a running clock, so an unchanged state is an unchanged message and
costs no write.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from workspace_controller.claims.causes import REMEDIES
from workspace_controller.claims.wording import told
from workspace_controller.workspaces import reasons
from workspace_controller.workspaces.facts import (
    Claim,
    ClaimKind,
    Deadlines,
    Finding,
    Node,
    Observed,
    Problem,
    SlotRecord,
)
from workspace_controller.workspaces.slots import Slot

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
    return replace(
        worst,
        message=f"{count}. {worst.message}",
        brief=f"{count}. {worst.brief or worst.message}",
        event=worst.event or worst.message,
    )


def turns_bad_at(seen: Observed, slot: Slot) -> datetime | None:
    """When waiting for a claim or its node starts to mean trouble; None if nothing is awaited."""
    claim = slot.claim
    if claim is None:
        return None
    if claim.phase == "ready":
        return None if claim.node in seen.nodes else claim.since + NODE_GRACE
    limit = _limit(seen.deadlines, claim)
    return None if limit is None else _waiting_since(claim) + limit


def _waiting_since(claim: Claim) -> datetime:
    """Since when nothing has moved; a node that served may be prepared a second time."""
    return max(claim.since, claim.caused_at or claim.since)


def _limit(deadlines: Deadlines, claim: Claim) -> timedelta | None:
    """How long the claim may stay at its stage; None where no deadline counts.

    One that has not joined in time is replaced, which is not for here to say.
    """
    if claim.verdict != "progress":
        return None
    match claim.phase:
        case "silent":
            return deadlines.answer
        case "launching":
            return deadlines.launch
        case "preparing":
            return deadlines.gpu
        case _:
            return None


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
        return _on_claim(seen, slot, slot.claim, pending)
    if slot.order is not None and not slot.order.attempt:
        # As for a claim that is there and silent: the next pass has nothing new to write.
        return Finding("pending", pending, _waiting(f"{kind} {slot.record.claim}"))
    return _on_loss(slot, kind)


def _waiting(who: str) -> str:
    return f"{who} waits for its provisioner."


def _on_loss(slot: Slot, kind: ClaimKind) -> Finding:
    """An empty slot: a loss with a cause, or the second in a row, is for a person to see."""
    record = slot.record
    if slot.leaving is not None:
        next_step = f"{kind} {slot.leaving.name} is being removed, then another is made."
    elif slot.order is not None:
        next_step = "Another is being made."
    else:
        next_step = "Another is made after a pause."
    lost = f"slot {slot.number} lost its {kind}, failure {record.failures} in a row."
    return Finding(
        "bad" if record.reason or record.failures > 1 else "pending",
        record.reason or reasons.CLAIM_LOST,
        f"{lost} {next_step}" + (f" Its cause: {record.message}" if record.message else ""),
        brief=f"{lost} {next_step}",
    )


def _on_claim(seen: Observed, slot: Slot, claim: Claim, pending: str) -> Finding:
    who = f"{claim.kind} {claim.name}"
    if claim.phase == "ready":
        return Finding("good", pending)
    if claim.verdict != "progress":
        return _on_failure(seen, claim)
    if slot.drop:
        limit = _span(seen.deadlines.join)
        return Finding(
            "bad",
            reasons.NODE_NEVER_JOINED,
            f"{who} was launched, but no node joined the cluster within {limit} "
            "(NODE_JOIN_TIMEOUT): it is replaced. If the next does not join either, look at the "
            "cluster's outbound network, DNS and node image.",
        )
    limit_reached = turns_bad_at(seen, slot)
    if limit_reached is not None and seen.now >= limit_reached:
        return _on_delay(seen, claim)
    if claim.phase == "silent":
        return Finding("pending", pending, _waiting(who) + _earlier(slot.record))
    doing = f"{who} is {claim.phase}"
    return Finding(
        "pending",
        pending,
        doing + _detail(claim) + _earlier(slot.record),
        brief=f"{doing}.",
    )


def _detail(claim: Claim) -> str:
    gist = told(claim.message).gist
    detail = ": ".join(part for part in (claim.reason, gist) if part)
    return f" ({detail})" if detail else ""


def _earlier(record: SlotRecord) -> str:
    """What a try says of the one before it."""
    if record.ordinal == 1:
        return ""
    cause = ": ".join(part for part in (record.reason, record.message) if part)
    before = f"; the one before failed with {cause}" if cause else "; the one before was lost."
    return f" This is try {record.ordinal}{before}"


def _on_failure(seen: Observed, claim: Claim) -> Finding:
    """A claim that has failed: what was asked, what the provisioner said, and what can be done."""
    who = f"{claim.kind} {claim.name}"
    said = told(claim.message)
    asked = f" for one {seen.instance_type}" if seen.instance_type else ""
    what = said.gist or "no cause was given."
    outlook = said.next_try or _OUTLOOK[claim.verdict].format(who=who)
    remedy = REMEDIES.get(claim.reason, "")
    words = f"The cloud's words: {said.words}" if said.words else ""
    lasting = (f"{who}{asked}: {what}", remedy)
    ready = reasons.MACHINE_READY if claim.kind == "Machine" else reasons.NODECLAIM_READY
    return Finding(
        "bad",
        claim.reason or reasons.CLAIM_FAILED,
        _sentences(*lasting, outlook, words),
        brief=_sentences(f"{who}: {said.headline or what}", f"What to do: see {ready}."),
        event=_sentences(*lasting, words),
    )


def _sentences(*parts: str) -> str:
    """The parts that there are, in one line; one without a full stop gets it."""
    ended = (part if part.endswith((".", "!", "…")) else f"{part}." for part in parts if part)
    return " ".join(ended)


def _on_delay(seen: Observed, claim: Claim) -> Finding:
    """A claim that has been at one stage for longer than its deadline."""
    who = f"{claim.kind} {claim.name}"
    since = _waiting_since(claim).strftime("%Y-%m-%d %H:%M:%S UTC")
    if claim.phase == "silent":
        return Finding(
            "bad",
            reasons.NO_PROVISIONER_ANSWER,
            f"no provisioner has reacted to {who} for {_span(seen.deadlines.answer)} "
            f"(PROVISIONER_ANSWER_TIMEOUT), since {since}: is the gpu-provisioner installed and "
            "running? Look at kubectl get pods -n gpu-provisioner and at its log. Any other "
            f"provisioner must serve {claim.kind}s labelled kaito.sh/workspace.",
            brief=f"no provisioner has reacted to {who}.",
        )
    node = seen.nodes.get(claim.node)
    trouble = _on_node(seen, node) if node is not None else None
    if trouble is not None:
        due = f"It joined, and was to be ready within {_span(seen.deadlines.gpu)}"
        message = _sentences(trouble.message, f"{due} (GPU_READY_TIMEOUT)")
        return replace(trouble, outlook="bad", message=message)
    stage, limit, setting = (
        ("launched", seen.deadlines.launch, "NODE_LAUNCH_TIMEOUT")
        if claim.phase == "launching"
        else ("called ready", seen.deadlines.gpu, "GPU_READY_TIMEOUT")
    )
    late = f"{who} was not {stage} within {_span(limit)} ({setting})"
    return Finding(
        "bad",
        reasons.NODE_DELAYED,
        f"{late}: nothing has moved since {since}{_detail(claim)}. Check that its provisioner "
        "runs, and what its log says: kubectl get pods -n gpu-provisioner",
        brief=f"{late}.",
    )


def _span(span: timedelta) -> str:
    seconds = int(span.total_seconds())
    return f"{seconds // 60} min" if seconds >= 120 and seconds % 60 == 0 else f"{seconds} s"


_OUTLOOK: Final = {
    "blocked": "The provisioner keeps trying.",
    "broken": "It is replaced if its provisioner cannot mend it.",
    "hopeless": "It is not tried again: delete {who} for another attempt once the cause is gone.",
}
_ORDER: Final = {"bad": 0, "unknown": 1, "pending": 2, "good": 3}


def _rank(finding: Finding) -> int:
    return _ORDER[finding.outlook]
