"""`python -m runtimes.tuning.worker TASK`: one training process, alone or one of several.

It touches neither network nor secrets, ends when the job ends, and leaves the reason of a failure on the
board.
"""

import ctypes
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import structlog

from runtimes import log as logs
from runtimes.failure import Exit
from runtimes.tuning.explain import explain
from runtimes.tuning.task import Board, Progress, Task

_PR_SET_PDEATHSIG = 1

log = structlog.get_logger(__name__)


def main(arguments: Sequence[str]) -> int:
    """Train; the exit code."""
    _end_with_parent()
    task = Task.read(Path(arguments[0]))
    board = Board(Path(task.folder))
    logs.configure(task.log_level)
    board.tell(Progress(phase="Loading"))
    try:
        # Seconds of imports, with warnings of their own: the log has to be there before.
        trainer = importlib.import_module("runtimes.tuning.trainer")
        trainer.train(task, board)
    except Exception as error:
        failure = explain(error)
        if failure.code is Exit.UNEXPECTED and not failure.reason:
            log.exception("the training failed")
        board.fail(failure)
        return failure.code
    return Exit.DONE


def _end_with_parent() -> None:
    """The kernel kills us when the process that started us dies, however it dies."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    ended = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(ended)  # no library's thread may hold up the end
