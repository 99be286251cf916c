"""`python -m runtimes.tuning`: read the flags, do the job, leave a last word.

The exit code and the termination message say the same, whatever happened.
"""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

import structlog

from runtimes import log as logs
from runtimes.failure import Exit, Failure
from runtimes.termination import TERMINATION_LOG, leave_word
from runtimes.tuning import job
from runtimes.tuning.explain import explain
from runtimes.tuning.launch import Interrupted
from runtimes.tuning.settings import Settings, read
from runtimes.tuning.status import Status, serve
from runtimes.tuning.task import Board

log = structlog.get_logger(__name__)


def main(arguments: Sequence[str]) -> int:
    """Do the job that the flags describe; the exit code."""
    try:
        settings = read(arguments)
    except Failure as failure:
        sys.stderr.write(f"runtimes.tuning: {failure}\n")
        leave_word(TERMINATION_LOG, Status(Board(Path()), "Failed", failure=failure).last_word())
        return failure.code
    logs.configure(settings.log_level)
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    with job.temporary_folder() as folder:
        status = Status(Board(Path(folder)))
        code = _run(settings, status, Path(folder))
        leave_word(settings.termination_log, status.last_word())
    return code


def _run(settings: Settings, status: Status, folder: Path) -> Exit:
    """Do the job, and let the status tell how it ended."""
    try:
        server = serve(status, settings.host, settings.port)
        log.info("listening", host=settings.host, port=server.server_port)
        job.run(job.Job.read(settings), status, folder)
    except Interrupted:
        status.phase = "Interrupted"
        status.failure = Failure(Exit.INTERRUPTED, "asked to end; the next start goes on from here")
        log.warning("interrupted", step=status.progress().step)
        return Exit.INTERRUPTED
    except Exception as error:
        status.phase = "Failed"
        status.failure = explain(error)
        unknown = status.failure.code is Exit.UNEXPECTED and not isinstance(error, Failure)
        log.critical(
            "the job failed",
            error=status.failure.message,
            exit_code=int(status.failure.code),
            exc_info=error if unknown else None,
        )
        return status.failure.code
    status.phase = "Succeeded"
    log.info("done", **status.word())
    return Exit.DONE


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """As an exception in the main thread: what runs is undone, or saved, on its way out."""
    del number, frame
    raise Interrupted


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # A thread may still be in a download; nobody waits for it any more.
    os._exit(code)
