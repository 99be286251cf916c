"""Decides, slot by slot, which claims to create, keep, replace and remove.

Invariant: a slot never has two live claims. A claim is replaced only after it is gone, under a name
that follows from the Workspace, the slot and the attempt, so that no crash can buy a second node.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from workspace_controller.claims.wording import told
from workspace_controller.workspaces import reasons
from workspace_controller.workspaces.facts import Claim, ClaimPhase, Observed, Order, SlotRecord

BROKEN_GRACE: Final = timedelta(minutes=10)
"""How long a provisioner may try to mend a broken node before we replace its claim."""
HEALTHY_AFTER: Final = timedelta(minutes=10)
"""A claim ready for this long wipes the slate of its slot."""
GONE_CHECK: Final = 5.0
"""Seconds between two looks at claims that are on their way out, should an event be missed."""
FIRST_DELAY: Final = timedelta(seconds=10)
LONGEST_DELAY: Final = timedelta(minutes=10)
_PROGRESS: Final[tuple[ClaimPhase, ...]] = ("silent", "launching", "joining", "preparing", "ready")


def claim_name(uid: str, slot: int, attempt: int) -> str:
    """The name of a slot's claim: `ws` and nine hex digits, so that it can name a pool too."""
    return "ws" + hashlib.sha256(f"{uid}/{slot}/{attempt}".encode()).hexdigest()[:9]


def back_off(failures: int) -> timedelta:
    """How long a slot waits after that many failures in a row: 0, 10 s, doubling to 10 min."""
    if failures <= 1:
        return timedelta()
    doublings = min(failures - 2, 16)
    return min(LONGEST_DELAY, FIRST_DELAY * (1 << doublings))


@dataclass(frozen=True)
class Slot:
    """One slot after the decision: what fills it, or why it is empty."""

    number: int
    record: SlotRecord
    claim: Claim | None = None
    order: Order | None = None
    leaving: Claim | None = None
    """The claim that must be gone before the slot is filled again."""
    drop: bool = False
    """The claim has failed and is to be replaced."""
    look_again: float | None = None


@dataclass(frozen=True)
class Slots:
    """All slots, and the claims that fill none."""

    filled: tuple[Slot, ...] = ()
    duplicates: tuple[Claim, ...] = ()
    """Live claims that must go at once."""
    surplus: tuple[Claim, ...] = ()
    """Live claims beyond the wanted number, which go after the workload has shrunk."""


def assign(seen: Observed, number: int) -> Slots:
    """Spreads the claims over `number` slots, the most useful first, and decides for each.

    Where the cluster serves no claims, or the Workspace awaits something, slots without one stay out
    of `filled`.
    """
    holders, duplicates = _holders([claim for claim in seen.claims if claim.live])
    ranked = sorted(holders, key=lambda slot: _uselessness(seen, slot, holders[slot]))
    kept, leaving_slots = sorted(ranked[:number]), sorted(ranked[number:])
    vacant = [slot for slot in range(number + len(kept)) if slot not in holders]
    records = {record.slot: record for record in seen.records}
    leaving = {
        claim.slot: claim
        for claim in sorted(seen.claims, key=lambda claim: claim.attempt)
        if not claim.live and claim.ours
    }
    filled = [_keep(seen, slot, holders[slot], records.get(slot)) for slot in kept]
    if seen.claim_kind is not None and seen.awaits is None:
        filled += [
            _fill(seen, slot, records.get(slot), leaving.get(slot))
            for slot in vacant[: number - len(kept)]
        ]
    return Slots(
        filled=tuple(sorted(filled, key=lambda slot: slot.number)),
        duplicates=duplicates,
        surplus=tuple(holders[slot] for slot in leaving_slots),
    )


def _uselessness(seen: Observed, slot: int, claim: Claim) -> tuple[bool, bool, int, int]:
    """What leaves first when the count shrinks: failed, idle, young in its making, newest slot."""
    return (
        claim.verdict != "progress",
        not pods_on(seen, claim),
        -_PROGRESS.index(claim.phase),
        slot,
    )


def pods_on(seen: Observed, claim: Claim) -> int:
    """Living pods of the Workspace on the claim's node."""
    node = seen.nodes.get(claim.node)
    return node.pods if node is not None else 0


def _holders(live: Iterable[Claim]) -> tuple[dict[int, Claim], tuple[Claim, ...]]:
    """The claim that holds each slot, and those that hold none.

    Of two claims for a slot the ready one holds it, then the later attempt. Claims without a slot,
    made by another release, hold the lowest free ones.
    """
    holders: dict[int, Claim] = {}
    duplicates = []
    homeless = []
    for claim in sorted(live, key=lambda c: (c.phase != "ready", -c.attempt, c.name)):
        if not claim.ours:
            duplicates.append(claim)
        elif claim.slot is None:
            homeless.append(claim)
        elif claim.slot in holders:
            duplicates.append(claim)
        else:
            holders[claim.slot] = claim
    for claim in homeless:
        free = next(slot for slot in range(len(holders) + 1) if slot not in holders)
        holders[free] = claim
    return holders, tuple(duplicates)


def _keep(seen: Observed, slot: int, claim: Claim, record: SlotRecord | None) -> Slot:
    """Decides for a slot that has a claim: keep it, or drop it because it has failed."""
    clean = SlotRecord(slot, claim.name, claim.attempt)
    held = replace(record, claim=claim.name, attempt=claim.attempt) if record else clean
    if record is not None and record.claim != claim.name:
        held = replace(held, lost_at=None)
    age = seen.now - claim.since
    held = _with_failure(held, claim)
    limit = _replaced_at(claim, seen.deadlines.join)
    if limit is not None and seen.now >= limit:
        return Slot(slot, _lost(held, claim, seen.now), claim=claim, drop=True)

    look_again = None if limit is None else (limit - seen.now).total_seconds()
    if claim.phase == "ready" and held.ordinal > 1:
        if age >= HEALTHY_AFTER:
            return Slot(slot, clean, claim=claim)
        look_again = (HEALTHY_AFTER - age).total_seconds()
    return Slot(slot, replace(held, lost_at=None), claim=claim, look_again=look_again)


def _lost(record: SlotRecord, claim: Claim, now: datetime) -> SlotRecord:
    """The record of a claim that is given up; a cache may show it for a while after, as it was."""
    record = replace(record, failing=False)
    if record.lost_at is not None:
        return record
    if claim.verdict == "progress":
        record = replace(record, reason=reasons.NODE_NEVER_JOINED, message="")
    return replace(record, failures=record.failures + 1, lost_at=now)


def _with_failure(record: SlotRecord, claim: Claim) -> SlotRecord:
    """The record with what a living claim says of itself: that it has failed, or is tried again."""
    if claim.verdict != "progress":
        return replace(with_cause(record, claim), failing=True)
    if record.failing:
        return replace(record, failing=False, retries=record.retries + 1)
    return record


def _replaced_at(claim: Claim, join: timedelta) -> datetime | None:
    """Until when the claim may stay as it is; None for as long as it takes.

    A node may break after hours of service: its grace begins with the break.
    """
    if claim.verdict == "broken":
        return (claim.caused_at or claim.since) + BROKEN_GRACE
    if claim.phase == "joining" and claim.verdict == "progress":
        return claim.since + join
    return None


def _fill(seen: Observed, slot: int, record: SlotRecord | None, leaving: Claim | None) -> Slot:
    """Decides for a slot that has no live claim: order one, or wait for the right moment."""
    if record is None and leaving is None:
        return Slot(slot, SlotRecord(slot, claim_name(seen.uid, slot, 0)), order=Order(slot, 0))

    if record is None:
        assert leaving is not None
        record = SlotRecord(slot, leaving.name, leaving.attempt)
    if record.lost_at is None:
        record = replace(record, lost_at=seen.now, failures=record.failures + 1, failing=False)
    assert record.lost_at is not None
    if leaving is not None:
        last = max(record.attempt, leaving.attempt)
        return Slot(slot, with_cause(replace(record, attempt=last), leaving), leaving=leaving)

    wait = record.lost_at + back_off(record.failures) - seen.now
    if wait > timedelta():
        return Slot(slot, record, look_again=wait.total_seconds())
    name = claim_name(seen.uid, slot, record.attempt + 1)
    fresh = replace(record, claim=name, attempt=record.attempt + 1, lost_at=None)
    return Slot(slot, fresh, order=Order(slot, fresh.attempt, after=record.claim))


def with_cause(record: SlotRecord, claim: Claim) -> SlotRecord:
    """The record with what a failed claim said; a claim that was merely deleted says nothing."""
    if claim.verdict == "progress":
        return record
    return replace(record, reason=claim.reason, message=told(claim.message).gist)
