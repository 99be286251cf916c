"""How far a claim is, free of dialect: what a plan reports and a dialect puts into words.

Invariant: every step that is not done has a reason from a closed list and a sentence for a person.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

State = Literal["done", "waiting", "refused", "failed"]
"""waiting: on its way; refused: will be tried again; failed: only an edit or a new claim helps."""

NEXT_TRY: Final = " Next try after "
"""Begins the last sentence of a message that names the time of the next try."""

NOT_LAUNCHED: Final = "NotLaunched"
"""Stands for each dialect's own word for "the step before this one is not done"."""


@dataclass(frozen=True, slots=True)
class Step:
    """Where one step stands.

    Attributes:
        state: whether it is done, and if not, what would help.
        reason: why it is not done.
        message: the same for a person, and what to do.
        until: when it will be tried again, where that is worth telling.
    """

    state: State
    reason: str = ""
    message: str = ""
    until: datetime | None = None

    @property
    def text(self) -> str:
        """The message, with the time of the next try."""
        if self.until is None:
            return self.message
        return f"{self.message}{NEXT_TRY}{self.until:%H:%M:%S} UTC."


DONE: Final = Step("done")
BEFORE: Final = Step("waiting", NOT_LAUNCHED)


@dataclass(frozen=True, slots=True)
class Bound:
    """The node that a claim is bound to.

    Attributes:
        name: the Node's name.
        provider_id: verbatim from the Node.
        image: the node image version.
        capacity: all that it has.
        allocatable: what pods may use.
    """

    name: str
    provider_id: str
    image: str = ""
    capacity: Mapping[str, str | int] = field(default_factory=dict)
    allocatable: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a claim is.

    Attributes:
        launched: there is a VM, and its name is known; None leaves what is told as it stands.
        registered: it is a node, with the claim's labels and taints; None likewise.
        initialized: the node can be used; None likewise.
        trouble: why a node that was initialized cannot be used now; None when it can.
        ending: how far the removal is; None while nothing is removed.
        bound: the node; None when there is none yet.
    """

    launched: Step | None
    registered: Step | None = BEFORE
    initialized: Step | None = BEFORE
    trouble: Step | None = None
    ending: Step | None = None
    bound: Bound | None = None
