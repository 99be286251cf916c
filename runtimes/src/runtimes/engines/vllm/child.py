"""A program that runs beside this one: started, read line by line, and ended with all that it started.

It never outlives `stop`: it has a process group of its own, which gets SIGTERM and, after a while, SIGKILL.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Mapping, Sequence

import structlog

LINES = 20

log = structlog.get_logger(__name__)


class Child:
    """One child process; `start` it once."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._process: subprocess.Popen[bytes] | None = None
        self._over = asyncio.Event()
        self._last: deque[str] = deque(maxlen=LINES)

    def start(self, words: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start the program; OSError if there is none."""
        log.info("starting", program=self._name, command=list(words))
        self._process = subprocess.Popen(  # noqa: S603  no shell, and words of our own
            list(words),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        # Threads that end with the program: what it says is wanted before, in and after every wait.
        ended = (self._process, asyncio.get_running_loop())
        threading.Thread(target=self._await, args=ended, daemon=True).start()
        threading.Thread(target=self._read, args=(self._process,), daemon=True).start()

    def _await(self, process: subprocess.Popen[bytes], loop: asyncio.AbstractEventLoop) -> None:
        process.wait()
        with contextlib.suppress(RuntimeError):  # the loop may have ended first
            loop.call_soon_threadsafe(self._over.set)

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None, "start opens the pipe"
        for line in process.stdout:
            text = line.decode(errors="replace").rstrip()
            if text:
                self._last.append(text)
                log.info(self._name, line=text)

    async def over(self) -> None:
        """Return once the program has ended."""
        await self._over.wait()

    @property
    def ended(self) -> str:
        """How the program ended, as a sentence; empty while it runs or was never started."""
        code = self._process.poll() if self._process else None
        if code is None:
            return ""
        said = next((line for line in reversed(self._last) if "rror" in line), "")
        return f"{self._name} ended with exit code {code}" + (f": {said[-400:]}" if said else "")

    async def stop(self, seconds: float) -> None:
        """End the program and all that it started; SIGKILL comes after `seconds`."""
        if self._process is None:
            return
        self._signal(self._process, signal.SIGTERM)
        try:
            async with asyncio.timeout(seconds):
                await self._over.wait()
        except TimeoutError:
            log.warning("it does not end by itself", program=self._name, waited_seconds=seconds)
        # Also when it ended: a helper of its own may have stayed behind.
        self._signal(self._process, signal.SIGKILL)
        await self._over.wait()

    def _signal(self, process: subprocess.Popen[bytes], number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
