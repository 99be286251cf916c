"""Start the training processes, and see them to their end.

They form a process group of their own: told to stop they save and end; whatever happens to us, none of them
is left behind.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from runtimes.failure import Exit, Failure
from runtimes.tuning.explain import out_of_memory
from runtimes.tuning.task import Board, Task

WORKER = "runtimes.tuning.worker"

log = structlog.get_logger(__name__)


class Interrupted(BaseException):
    """The job was told to end; what it was doing is undone on the way out."""


class Training:
    """The processes of one training."""

    def __init__(self, task: Task, board: Board, processes: int) -> None:
        self._board = board
        folder = Path(task.folder)
        self._process = subprocess.Popen(  # noqa: S603  (our own program)
            command(task.write(), processes),
            env=environment(os.environ, folder, task.threads),
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(ProcessLookupError):  # all have ended
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def wait(self) -> None:
        """Return when the training has ended well: with a result, or early because it was told to.

        Raises `Failure`, and `Interrupted` if there was nothing to save yet.
        """
        try:
            code = self._process.wait()
        except Interrupted:
            if self._board.progress().phase != "Training":
                raise  # there is nothing to save yet
            log.info("asked to end; a checkpoint is saved after this step")
            self._board.ask_to_stop()
            code = self._process.wait()
        if code != Exit.DONE:
            raise self._board.failure() or _unexplained(code)


def command(task: Path, processes: int) -> list[str]:
    """One process by itself; several by way of accelerate, one for each GPU."""
    if processes == 1:
        return [sys.executable, "-m", WORKER, str(task)]
    flags = (f"--num_processes={processes}", "--num_machines=1", "--machine_rank=0")
    plain = ("--mixed_precision=no", "--dynamo_backend=no", "--multi_gpu")
    launcher = (sys.executable, "-m", "accelerate.commands.launch")
    return [*launcher, *flags, *plain, "-m", WORKER, str(task)]


def environment(ours: Mapping[str, str], folder: Path, threads: int) -> dict[str, str]:
    """What training processes see: no network, no tokens, and a place for every cache."""
    kept = {name: value for name, value in ours.items() if not name.startswith(("HF_", "RUNTIME_"))}
    return {
        **kept,
        "HF_HOME": str(folder / "hub"),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(folder / "datasets"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "OMP_NUM_THREADS": str(threads),
        "PYTORCH_ALLOC_CONF": "expandable_segments:True",
        "TOKENIZERS_PARALLELISM": "false",
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
        "TRITON_CACHE_DIR": str(folder / "triton"),
    }


def _unexplained(code: int) -> Failure:
    """The training ended without a word; the kernel kills what takes the container's last memory."""
    if code in {-signal.SIGKILL, 128 + signal.SIGKILL}:
        return out_of_memory("the training was killed, as the kernel does with the largest process")
    return Failure(Exit.UNEXPECTED, f"the training ended with status {code}; its log says more")
