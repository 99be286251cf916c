"""When a condition's transition time moves."""

from datetime import UTC, datetime, timedelta
from typing import Literal

from controlkit.conditions import find, set_condition
from controlkit.kube.objects import Condition

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(minutes=5, microseconds=7)


def ready(status: Literal["True", "False", "Unknown"], reason: str = "R") -> Condition:
    return Condition(type="Ready", status=status, reason=reason)


def test_a_first_condition_is_dated_in_whole_seconds() -> None:
    [only] = set_condition((), ready("True"), LATER)
    assert only.last_transition_time == NOON + timedelta(minutes=5)
    assert only.manifest()["lastTransitionTime"] == "2030-01-01T12:05:00Z"


def test_another_status_moves_the_time() -> None:
    before = set_condition((), ready("False"), NOON)
    [after] = set_condition(before, ready("True"), LATER)
    assert after.last_transition_time == NOON + timedelta(minutes=5)


def test_another_reason_alone_does_not() -> None:
    before = set_condition((), ready("False", "Waiting"), NOON)
    [after] = set_condition(before, ready("False", "Failed"), LATER)
    assert (after.reason, after.last_transition_time) == ("Failed", NOON)


def test_saying_the_same_again_changes_nothing() -> None:
    before = set_condition((), ready("True"), NOON)
    assert set_condition(before, ready("True"), LATER) == before


def test_the_others_stay_where_they_are() -> None:
    conditions = set_condition((), Condition(type="A", status="True"), NOON)
    conditions = set_condition(conditions, ready("False"), NOON)
    conditions = set_condition(conditions, Condition(type="B", status="True"), NOON)
    changed = set_condition(conditions, ready("True"), LATER)
    assert [each.type for each in changed] == ["A", "Ready", "B"]
    assert (changed[0], changed[2]) == (conditions[0], conditions[2])


def test_a_condition_without_a_date_gets_one() -> None:
    [after] = set_condition((ready("True"),), ready("True"), NOON)
    assert after.last_transition_time == NOON


def test_a_condition_is_found_by_its_type() -> None:
    conditions = set_condition((), ready("True"), NOON)
    assert find(conditions, "Ready") == conditions[0]
    assert find(conditions, "Other") is None
