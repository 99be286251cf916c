"""`python -m runtimes.serving`: read the settings, take the port, serve."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Sequence

import structlog

from runtimes import log as logs
from runtimes.failure import Exit, StartupFailure
from runtimes.serving.engine_choice import engine_maker
from runtimes.serving.server import Server, listen
from runtimes.serving.settings import Settings
from runtimes.serving.sources import read
from runtimes.termination import leave_word

log = structlog.get_logger(__name__)


def main(arguments: Sequence[str]) -> int:
    """Serve until told to stop; the exit code says what kept the server from it."""
    try:
        settings = read(arguments, os.environ)
    except StartupFailure as failure:
        sys.stderr.write(f"runtimes.serving: {failure}\n")
        leave_word(Settings().termination_log, failure.message)
        return failure.code
    logs.configure(settings.log_level)
    try:
        with listen(settings) as listener:
            asyncio.run(run(settings, listener))
    except StartupFailure as failure:
        log.critical("cannot serve", reason=failure.message, exit_code=int(failure.code))
        leave_word(settings.termination_log, failure.message)
        return failure.code
    except Exception as error:
        log.exception("the server failed")
        leave_word(settings.termination_log, f"unexpected: {_cause(error)}")
        return Exit.UNEXPECTED
    return Exit.DONE


async def run(settings: Settings, listener: socket.socket) -> None:
    """Serve until a signal: the first one begins the drain, the second ends the process at once."""
    server = Server(settings, engine_maker(settings))

    def asked_to_end(number: signal.Signals) -> None:
        log.info("asked to end", signal=number.name, again=server.stopping)
        if server.stopping:
            os._exit(128 + number)
        server.stop()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_end, number)
    await server.run(listener)


def _cause(error: Exception) -> str:
    """The first error in a group's groups: what the group itself says names no cause."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # A thread may still be in a download or in a step of the model; nobody waits for it any more.
    os._exit(code)
