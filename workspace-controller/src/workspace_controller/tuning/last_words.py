"""Reads what a training process says of itself: while it runs, and as its last message.

Invariant: whatever a process says, what comes out fits the Workspace's status.
"""

import math
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from workspace_controller.tuning.facts import Progress

DIGITS = 4


def _finite(value: float | None) -> float | None:
    """Training that diverges says NaN, which JSON does not know."""
    return round(value, DIGITS) if value is not None and math.isfinite(value) else None


Steps = Annotated[int, Field(ge=0, le=2**53)]
Number = Annotated[float | None, AfterValidator(_finite)]


class LastWords(BaseModel):
    """The termination message of the tuning runtime, and what it answers at `/progress`."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    step: Steps | None = None
    total: Steps | None = None
    epoch: Number = None
    loss: Number = None
    eval_loss: Number = None
    image: Annotated[str, Field(max_length=512)] | None = None
    digest: Annotated[str, Field(pattern=r"^[a-z0-9]+:[0-9a-f]{32,120}$")] | None = None
    error: str | None = None

    @property
    def progress(self) -> Progress:
        """The figures."""
        epoch = None if self.epoch is None or self.epoch < 0 else self.epoch
        return Progress(self.step, self.total, epoch, self.loss, self.eval_loss)


def last_words(message: str) -> LastWords:
    """A termination message; one that is not the runtime's own is taken for its error."""
    try:
        return LastWords.model_validate_json(message)
    except ValidationError:
        return LastWords(error=message.strip() or None)


def spoken(answer: dict[str, Any]) -> Progress | None:
    """What a running process answered; None when it makes no sense."""
    try:
        return LastWords.model_validate(answer).progress
    except ValidationError:
        return None
