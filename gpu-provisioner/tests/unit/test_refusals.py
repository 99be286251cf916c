"""How long a refusal is waited out, and what shortens that."""

from datetime import timedelta

import pytest
from provisioner_world.builders import NAME, NOW, claim, condition, pool

from controlkit_testing import FakeClock
from gpu_provisioner.azure.errors import Failure
from gpu_provisioner.azure.pools import PoolState
from gpu_provisioner.claims.refusals import Refusals

QUOTA = Failure("quota", "used up")


async def test_21_the_same_refusal_is_waited_out_longer_each_time() -> None:
    clock = FakeClock()
    refusals = Refusals(clock)
    waits = []
    for _ in range(4):
        refusals.note_creation(claim(), QUOTA)
        noted = refusals.creating(claim())
        assert noted is not None
        waits.append((noted.until - clock.now()).total_seconds())
        await clock.advance(waits[-1])
    assert waits == [300, 600, 1200, 1800]


def test_another_kind_of_refusal_begins_anew() -> None:
    refusals = Refusals(FakeClock())
    refusals.note_creation(claim(), QUOTA)
    refusals.note_creation(claim(), Failure("capacity", "sold out"))
    noted = refusals.creating(claim())
    assert noted is not None
    assert noted.attempts == 1


def test_what_is_said_to_a_creation_does_not_hold_up_the_deletion() -> None:
    refusals = Refusals(FakeClock())
    going = claim(deleting=NOW)
    refusals.note_creation(claim(), QUOTA)
    assert refusals.deleting(going) is None
    refusals.note_deletion(going, Failure("conflict", "busy"))
    refusals.note_deletion(going, Failure("conflict", "busy"))
    noted = refusals.deleting(going)
    assert noted is not None
    assert noted.attempts == 2


def test_what_is_said_to_the_deletion_of_a_failed_pool_does_not_touch_the_next_creation() -> None:
    refusals = Refusals(FakeClock())
    refusals.note_pool(NAME, Failure("conflict", "busy"), pool("Failed"))
    assert refusals.creating(claim()) is None
    assert refusals.deleting_pool(NAME) is not None
    refusals.forget_pool(NAME)
    assert refusals.deleting_pool(NAME) is None


@pytest.mark.parametrize(("state", "busy"), [("InProgress", True), ("Succeeded", False)])
def test_only_the_end_of_the_pool_s_own_operation_can_be_seen(state: PoolState, busy: bool) -> None:
    refusals = Refusals(FakeClock())
    noted = refusals.note_pool(NAME, Failure("conflict", "busy"), pool(state))
    assert noted.pool_busy is busy


def test_an_edit_of_the_claim_may_be_the_cure() -> None:
    refusals = Refusals(FakeClock())
    refusals.note_creation(claim(generation=1), Failure("request", "wrong"))
    assert refusals.creating(claim(generation=1)) is not None
    assert refusals.creating(claim(generation=2)) is None


def test_once_over_it_is_forgotten() -> None:
    refusals = Refusals(FakeClock())
    refusals.note_creation(claim(), QUOTA)
    refusals.note_deletion(claim(deleting=NOW), QUOTA)
    refusals.forget("uid-1")
    assert refusals.creating(claim()) is None
    assert refusals.deleting(claim()) is None


def test_25_when_azure_answers_again_what_concerned_all_is_forgiven() -> None:
    refusals = Refusals(FakeClock())
    refusals.note_creation(claim(uid="a"), Failure("credentials", "no"))
    refusals.note_creation(claim(uid="b"), QUOTA)
    refusals.note_deletion(claim(uid="c", deleting=NOW), Failure("transient", "no"))
    refusals.note_deletion(claim(uid="d", deleting=NOW), Failure("conflict", "busy"))
    assert refusals.forgive() == {"a", "c"}
    assert refusals.creating(claim(uid="a")) is None
    assert refusals.creating(claim(uid="b")) is not None
    assert refusals.deleting(claim(uid="c")) is None
    assert refusals.deleting(claim(uid="d")) is not None


def test_after_a_restart_the_claim_s_own_words_stand_in() -> None:
    refusals = Refusals(FakeClock())
    told = claim(told=(condition("Launched", "False", "QuotaExceeded", "used up"),))
    recovered = refusals.creating(told)
    assert recovered is not None
    assert recovered.failure == QUOTA
    # The condition is five minutes old, and so is the refusal.
    assert recovered.until == NOW - timedelta(minutes=5) + timedelta(seconds=300)


def test_a_refusal_that_was_taken_from_the_claim_does_not_get_younger_by_being_told() -> None:
    refusals = Refusals(FakeClock())
    text = "used up Next try after 12:05:00 UTC."
    first = refusals.creating(claim(told=(condition("Launched", "False", "QuotaExceeded", text),)))
    later = condition("Launched", "False", "QuotaExceeded", text)._replace(since=NOW)
    again = refusals.creating(claim(told=(later,)))
    assert first is not None
    assert first.failure.message == "used up"
    assert again == first


def test_after_a_restart_a_size_that_is_not_offered_is_still_final() -> None:
    told = claim(told=(condition("Launched", "False", "InstanceTypeUnavailable", "…"),))
    recovered = Refusals(FakeClock()).creating(told)
    assert recovered is not None
    assert recovered.failure.final


def test_a_reason_that_may_mean_several_things_is_simply_tried_again() -> None:
    refusals = Refusals(FakeClock())
    for told in (
        condition("Launched", "Unknown", "PoolCreating"),
        condition("Launched", "False", "InvalidRequest"),
        condition("Launched", "True"),
    ):
        assert refusals.creating(claim(told=(told,))) is None
