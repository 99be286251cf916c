"""What a pass knows of a tuning Workspace's run, flat and immutable.

Invariant: a run is named by what was asked for, so that the same wish is never run a second time
and another wish always is.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from gpuapis.workspace import TuningStatus

Result = Literal["Succeeded", "Failed"]
JobPhase = Literal["absent", "active", "complete", "failed"]


@dataclass(frozen=True)
class Progress:
    """How far the training is, as it says itself; None for what it has not said."""

    step: int | None = None
    total_steps: int | None = None
    epoch: float | None = None
    loss: float | None = None
    eval_loss: float | None = None


@dataclass(frozen=True)
class Ending:
    """How a pod of the run ended."""

    reason: str
    """One of the closed list; "" when it ended well."""
    message: str = ""
    """What happened, with which value, and what to do."""
    progress: Progress = Progress()
    image: str = ""
    """The reference that the result was pushed to."""
    digest: str = ""


@dataclass(frozen=True)
class Record:
    """What the status holds of a run, and what outlives its Job, pods and node."""

    run: str
    progress: Progress = Progress()
    result: Result | None = None
    """None until the run has ended."""
    reason: str = ""
    message: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    image: str = ""
    digest: str = ""
    released: bool = False
    """Its node has been given up."""


@dataclass(frozen=True)
class Unusable:
    """Why the training configuration cannot be used."""

    reason: str
    message: str


@dataclass(frozen=True)
class Tuning:
    """All that a pass knows of the run."""

    wanted: str
    """The run that spec and training configuration ask for; "" while the latter is unusable."""
    output: str = ""
    """The folder of results that the training configuration names; "" where it was not read."""
    own_config: bool = False
    """The training configuration is the user's; else the defaults are copied for the Job."""
    unusable: Unusable | None = None
    job: JobPhase = "absent"
    """How the Job of the wanted run is."""
    verdict: tuple[str, str] = ("", "")
    """Reason and message by which the Job controller has given up."""
    finished_at: datetime | None = None
    failures: int = 0
    """Pods of the run that have failed so far."""
    started_at: datetime | None = None
    """When the first container of the run began; None before."""
    at_work: bool = False
    """A training process runs now."""
    ending: Ending | None = None
    """How its last pod ended; None while none has."""
    progress: Progress | None = None
    """What the training says now; None when it was not asked or did not answer."""
    record: Record | None = None
    """What the status says, of this run or of one before."""
    keep_node: bool = False
    destination: str = ""
    """Where the result goes, for a sentence."""

    @property
    def ended(self) -> Record | None:
        """The record of the wanted run, once the status says how it ended."""
        record = self.record
        done = record is not None and record.result is not None and record.run == self.wanted
        return record if done else None


def recorded(status: TuningStatus | None) -> Record | None:
    """What a status says of a run."""
    if status is None:
        return None
    return Record(
        run=status.run,
        progress=Progress(
            status.step, status.total_steps, status.epoch, status.loss, status.eval_loss
        ),
        result=status.result,
        reason=status.reason or "",
        message=status.message or "",
        started_at=status.started_at,
        finished_at=status.finished_at,
        image=status.image or "",
        digest=status.digest or "",
        released=bool(status.resource_released),
    )


def as_status(record: Record) -> TuningStatus:
    """The status that says what a record holds."""
    progress = record.progress
    return TuningStatus(
        run=record.run,
        result=record.result,
        reason=record.reason or None,
        message=record.message or None,
        step=progress.step,
        total_steps=progress.total_steps,
        epoch=progress.epoch,
        loss=progress.loss,
        eval_loss=progress.eval_loss,
        started_at=_whole(record.started_at),
        finished_at=_whole(record.finished_at),
        image=record.image or None,
        digest=record.digest or None,
        resource_released=record.released if record.result is not None else None,
    )


def _whole(moment: datetime | None) -> datetime | None:
    """The API keeps whole seconds; a part of one would differ from it for ever."""
    return None if moment is None else moment.replace(microsecond=0)
