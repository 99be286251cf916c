"""What a training process is told, and where it leaves its figures.

The job and its training processes share nothing but a folder: the task in, progress and outcome out, and a file
whose presence means "stop".
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from runtimes.failure import Exit, Failure
from runtimes.tuning.config import TrainingConfig
from runtimes.tuning.rows import Shape


@dataclass(frozen=True)
class Task:
    """One training; paths are absolute."""

    folder: str
    model_folder: str
    model_commit: str
    base_model_name: str
    method: str
    samples: str
    shape: Shape
    dataset: dict[str, Any]
    output_dir: str
    identity: str
    config: dict[str, Any]
    config_digest: str
    set_arguments: list[str]
    checkpoint_seconds: float
    threads: int
    log_level: str

    def write(self) -> Path:
        """Leave the task in its folder; the file."""
        file = Path(self.folder, "task.json")
        file.write_text(json.dumps(asdict(self)))
        return file

    @classmethod
    def read(cls, file: Path) -> Self:
        """The task that `write` left."""
        content = json.loads(file.read_bytes())
        return cls(**{**content, "shape": Shape(content["shape"])})

    @property
    def sections(self) -> TrainingConfig:
        """The config as typed sections again."""
        return TrainingConfig.model_validate(self.config)


@dataclass(frozen=True)
class Progress:
    """How far a training is; losses and rates are None until they are known."""

    phase: str = "Preparing"
    step: int = 0
    total: int = 0
    epoch: float = 0.0
    loss: float | None = None
    eval_loss: float | None = None
    grad_norm: float | None = None
    tokens_per_second: float | None = None
    seconds_left: float | None = None


class Board:
    """The folder between the job and its training processes; each file appears whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self._progress = folder / "progress.json"
        self._outcome = folder / "outcome.json"
        self._stop = folder / "stop"

    def tell(self, progress: Progress) -> None:
        """Publish the newest figures."""
        _put(self._progress, asdict(progress))

    def progress(self) -> Progress:
        """The newest figures."""
        content = _get(self._progress)
        return Progress(**content) if content else Progress()

    def fail(self, failure: Failure) -> None:
        """Say why the training ended; the first process to say so is believed."""
        if not self._outcome.exists():
            _put(self._outcome, {**asdict(failure), "code": int(failure.code)})

    def failure(self) -> Failure | None:
        """Why the training ended, if a process could say so."""
        content = _get(self._outcome)
        return Failure(**{**content, "code": Exit(content["code"])}) if content else None

    def ask_to_stop(self) -> None:
        """Make the training save a checkpoint after its current step, and end."""
        self._stop.touch()

    def asked_to_stop(self) -> bool:
        """True once the job has been told to end."""
        return self._stop.exists()


def _put(file: Path, content: dict[str, Any]) -> None:
    new = file.with_name(f"{file.name}.{os.getpid()}")
    new.write_text(json.dumps(content))
    new.replace(file)


def _get(file: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(file.read_bytes())
    except FileNotFoundError:
        return {}
    return content
