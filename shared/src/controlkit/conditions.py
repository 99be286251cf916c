"""Conditions as an immutable list keyed by type.

Invariant: a condition's transition time moves when, and only when, its status changes.
"""

from collections.abc import Iterable
from datetime import datetime

from controlkit.kube.objects import Condition


def find(conditions: Iterable[Condition], kind: str) -> Condition | None:
    """The condition of that type, if there is one."""
    return next((each for each in conditions if each.type == kind), None)


def set_condition(
    conditions: Iterable[Condition], new: Condition, now: datetime
) -> tuple[Condition, ...]:
    """The conditions with `new` in the place of its predecessor, or at the end.

    A condition that says nothing new comes back equal to its predecessor, so that comparing the
    results tells whether a write is needed.

    Args:
        conditions: one of each type at most.
        new: its own transition time is ignored.
        now: becomes the transition time if the status changed, in whole seconds.
    """
    held = tuple(conditions)
    old = find(held, new.type)
    moved = now.replace(microsecond=0)
    if old is not None and old.status == new.status and old.last_transition_time is not None:
        moved = old.last_transition_time
    placed = new.model_copy(update={"last_transition_time": moved})
    if old is None:
        return (*held, placed)
    return tuple(placed if each is old else each for each in held)
