"""What watches a training: figures for the job, an end when it is asked for, checkpoints by the clock.

With several processes all of them decide alike after the same step, or none would save the other's part.
"""

import time
from pathlib import Path
from typing import Any

import structlog
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from runtimes.tuning import checkpoints
from runtimes.tuning.task import Board, Progress

QUIET_SECONDS = 10.0

log = structlog.get_logger(__name__)


class Reporter(TrainerCallback):
    """Publishes the figures of the first process."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._figures: dict[str, float | None] = {}
        self._started = self._logged_at = time.monotonic()
        self._first_step = 0
        self._tokens = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """The clock starts when training does, not when the model is loaded."""
        self._started = self._logged_at = time.monotonic()
        self._first_step = state.global_step
        self._tell(state)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Each step counts, and none is silent for long."""
        quiet = time.monotonic() - self._logged_at
        if quiet >= QUIET_SECONDS or state.global_step >= state.max_steps:
            control.should_log = True
        self._tell(state)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Losses arrive here, every `logging_steps`."""
        if not state.is_world_process_zero or not logs:
            return
        known = ("loss", "eval_loss", "grad_norm")
        self._figures |= {name: float(logs[name]) for name in known if name in logs}
        if "loss" in logs:
            self._count_tokens(float(logs.get("num_tokens", 0.0)))
        progress = self._tell(state)
        line = {name: value for name, value in vars(progress).items() if value is not None}
        log.info("training", **{name: _short(value) for name, value in line.items()})

    def _count_tokens(self, tokens: float) -> None:
        now = time.monotonic()
        if tokens > self._tokens > 0 and now > self._logged_at:
            self._figures["tokens_per_second"] = (tokens - self._tokens) / (now - self._logged_at)
        self._tokens, self._logged_at = tokens, now

    def _tell(self, state: TrainerState) -> Progress:
        done = state.global_step - self._first_step
        each = (time.monotonic() - self._started) / done if done else None
        left = state.max_steps - state.global_step
        progress = Progress(
            phase="Training",
            step=state.global_step,
            total=state.max_steps,
            epoch=float(state.epoch or 0.0),
            seconds_left=None if each is None else each * left,
            **self._figures,
        )
        if state.is_world_process_zero:
            self._board.tell(progress)
        return progress


class Keeper(TrainerCallback):
    """Saves when asked to end and when it is time, and seals what was saved."""

    def __init__(self, board: Board, identity: str, seconds: float) -> None:
        self._board = board
        self._identity = identity
        self._seconds = seconds
        self._saved_at = time.monotonic()
        self.stopped = False

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Decide, together with the other processes, whether to save and whether to end."""
        waited = time.monotonic() - self._saved_at
        stop, save = _agree(
            self._board.asked_to_stop(), 0 < self._seconds <= waited, device=args.device
        )
        if stop and state.global_step < state.max_steps:
            self.stopped = True
            control.should_training_stop = True
        control.should_save = control.should_save or self.stopped or save
        return control

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Whatever made the trainer save, the clock starts anew and the checkpoint is sealed."""
        self._saved_at = time.monotonic()
        if state.is_world_process_zero:
            assert args.output_dir is not None
            checkpoint = Path(args.output_dir, f"{checkpoints.PREFIX}{state.global_step}")
            checkpoints.seal(checkpoint, self._identity)
            log.info("checkpoint saved", checkpoint=checkpoint.name)


def _agree(*flags: bool, device: torch.device) -> list[bool]:
    """True where any process says so, in all processes."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return list(flags)
    told = torch.tensor([float(flag) for flag in flags], device=device)
    torch.distributed.all_reduce(told, op=torch.distributed.ReduceOp.MAX)
    return [bool(value) for value in told.tolist()]


def _short(value: Any) -> Any:
    return float(f"{value:.5g}") if isinstance(value, float) else value
