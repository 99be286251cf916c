"""The history of tries: opened once, closed once, with their causes."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from workspace_controller.workspaces.attempts import KEPT, history
from workspace_controller.workspaces.facts import Attempt, Claim, ClaimPhase, Observed, Order
from workspace_controller.workspaces.plan import decide
from workspace_controller.workspaces.slots import claim_name

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
NAME = claim_name("u-1", 0, 0)


def ago(**span: float) -> datetime:
    return NOW - timedelta(**span)


def claim(phase: ClaimPhase = "launching", **more: Any) -> Claim:
    return Claim(NAME, "Machine", phase, ago(seconds=30), milestones=(ago(minutes=1),), **more)


def seen(*claims: Claim, attempts: tuple[Attempt, ...] = ()) -> Observed:
    return Observed(now=NOW, uid="u-1", instance_type="big", claims=claims, attempts=attempts)


OPEN = Attempt(0, NAME, "big", ago(minutes=1))
FAILED = claim(verdict="blocked", reason="QuotaExceeded", message="Used up. Raise it.",
               caused_at=ago(seconds=5))  # fmt: skip
CLOSED = replace(OPEN, ended_at=ago(seconds=5), reason="QuotaExceeded", message="Used up.")


def test_an_order_opens_a_try_and_the_claim_does_not_open_it_again() -> None:
    (ordered,) = history(seen(), [Order(0, 0)])
    assert ordered == Attempt(0, NAME, "big", NOW)
    assert history(seen(claim(), attempts=(ordered,)), []) == (ordered,)


def test_a_claim_that_nobody_wrote_down_is_dated_by_its_creation() -> None:
    assert history(seen(claim()), []) == (OPEN,)


def test_a_failure_ends_a_try_with_its_cause() -> None:
    assert history(seen(FAILED, attempts=(OPEN,)), []) == (CLOSED,)
    assert history(seen(FAILED, attempts=(CLOSED,)), []) == (CLOSED,)


def test_a_failed_claim_that_is_tried_again_opens_another() -> None:
    again = history(seen(claim(), attempts=(CLOSED,)), [])
    assert again == (CLOSED, replace(OPEN, started_at=ago(seconds=30)))


def test_a_deleted_claim_and_one_that_is_gone_end_their_tries() -> None:
    (deleted,) = history(seen(claim("deleting"), attempts=(OPEN,)), [])
    assert (deleted.reason, deleted.ended_at) == ("Deleted", ago(seconds=30))
    (gone,) = history(seen(attempts=(OPEN,)), [])
    assert (gone.reason, gone.ended_at) == ("Gone", NOW)
    assert history(seen(claim("deleting"), attempts=(deleted,)), []) == (deleted,)


def test_the_newest_ten_are_kept() -> None:
    many = tuple(
        replace(CLOSED, claim=f"ws{number}", started_at=ago(minutes=2)) for number in range(KEPT)
    )
    kept = history(seen(claim(), attempts=many), [])
    assert len(kept) == KEPT
    assert kept == (*many[1:], OPEN)


@pytest.mark.parametrize("spread", [0, 1])
def test_more_nodes_than_are_kept_leave_the_history_as_it_is(spread: int) -> None:
    """Else each pass would write what the one before had pushed out, for ever."""
    count = KEPT + 15
    kept = history(Observed(now=ago(minutes=1), uid="u-1"), [Order(n, 0) for n in range(count)])
    claims = [
        replace(
            claim("ready"),
            name=claim_name("u-1", slot, 0),
            slot=slot,
            milestones=(ago(minutes=1) + timedelta(seconds=spread * (slot % 3)),),
        )
        for slot in range(count)
    ]
    passes = [kept := history(seen(*claims, attempts=kept), []) for _ in range(6)]
    assert passes[-1] == passes[-2]
    assert len(kept) == KEPT


def test_a_retry_tells_the_cause_and_the_number_of_the_try_before() -> None:
    failed = decide(seen(FAILED)).report
    assert failed is not None
    assert failed.records is not None
    assert failed.records[0].failing
    again = decide(replace(seen(claim(reason="PoolCreating")), records=failed.records)).report
    assert again is not None
    assert again.claims is not None
    assert again.claims.outlook == "pending"
    assert again.claims.message.endswith(
        "This is try 2; the one before failed with QuotaExceeded: Used up. Raise it."
    )
    assert again.records is not None
    assert (again.records[0].retries, again.records[0].failing) == (1, False)
