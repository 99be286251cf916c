"""Keeps the history of a Workspace's tries at nodes, from what the status tells and what is seen.

Invariant: a try is opened once and closed once, with its cause; the newest `KEPT` remain, oldest
first, and an unchanged cluster leaves the history unchanged.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Final

from workspace_controller.claims.wording import told
from workspace_controller.workspaces.facts import Attempt, Claim, Observed, Order
from workspace_controller.workspaces.slots import claim_name

KEPT: Final = 10
DELETED: Final = "Deleted"
GONE: Final = "Gone"


def history(seen: Observed, orders: Iterable[Order]) -> tuple[Attempt, ...]:
    """The history with what this pass sees and orders."""
    claims = {claim.name: claim for claim in seen.claims if claim.ours}
    tries = [_closed(each, claims.get(each.claim), seen.now) for each in seen.attempts]
    last = {each.claim: each for each in tries}
    # Of more claims than are kept, most are not in the history; they are not news for that.
    forgotten = min(map(_age, tries)) if len(tries) >= KEPT else None
    for name, claim in sorted(claims.items(), key=lambda item: (item[1].slot or 0, item[0])):
        opened = _opened(seen, claim, last.get(name))
        if opened is not None and (forgotten is None or _age(opened) > forgotten):
            tries.append(opened)
    now = seen.now.replace(microsecond=0)
    for order in orders:
        name = claim_name(seen.uid, order.slot, order.attempt)
        if name not in last:
            tries.append(Attempt(order.slot, name, seen.instance_type, now))
    return tuple(sorted(tries, key=_age)[-KEPT:])


def _age(attempt: Attempt) -> tuple[datetime, int]:
    """What the history is ordered by; of claims made at once, the last slot's is the newest."""
    return attempt.started_at, attempt.slot


def _closed(attempt: Attempt, claim: Claim | None, now: datetime) -> Attempt:
    """The try, ended if its claim has failed, is on its way out or is gone."""
    if attempt.ended_at is not None:
        return attempt
    if claim is None:
        return replace(attempt, ended_at=now.replace(microsecond=0), reason=GONE)
    if claim.verdict != "progress":
        return _failed(attempt, claim)
    if claim.live:
        return attempt
    return replace(attempt, ended_at=claim.since, reason=DELETED)


def _failed(attempt: Attempt, claim: Claim) -> Attempt:
    cause = told(claim.message)
    at = claim.caused_at or claim.since
    return replace(attempt, ended_at=at, reason=claim.reason, message=cause.headline)


def _opened(seen: Observed, claim: Claim, last: Attempt | None) -> Attempt | None:
    """The try that a claim is at, if the history does not have it yet.

    A claim that has failed and goes on is tried again; one on its way out is not.
    """
    if last is not None and (last.ended_at is None or claim.verdict != "progress"):
        return None
    if not claim.live:
        return None
    created = claim.milestones[0] if claim.milestones and last is None else None
    fresh = Attempt(claim.slot or 0, claim.name, seen.instance_type, created or claim.since)
    return fresh if claim.verdict == "progress" else _failed(fresh, claim)
