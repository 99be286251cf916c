"""Starts, supervises and stops everything in a process, in order.

Invariant: what stands on another part starts after it and stops before it; a part that crashes,
ends by itself or loses the lease takes the whole process down, and nothing outlives the deadline.
"""

import asyncio
import gc
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import structlog

from controlkit.errors import ControlError
from controlkit.kube.reflector import Reflector
from controlkit.leader import LeaderElector, LeadershipLost

log = structlog.get_logger(__name__)

Run = Callable[[], Awaitable[None]]

STOP_SECONDS = 9.0
COLLECT_AFTER = 50_000


class EndedEarly(Exception):
    """A part that should run as long as the process returned."""


class Manager:
    """The parts of one process; `run` returns its exit status."""

    def __init__(self, *, leader: LeaderElector | None) -> None:
        """A process without parts.

        Args:
            leader: elects who runs the leading parts; None runs them here at once.
        """
        self._leader = leader
        self._always: dict[str, Run] = {}
        self._reflectors: list[Reflector[Any]] = []
        self._leading: dict[str, Run] = {}
        self._dead: list[str] = []
        self._stopping = False
        self._gone_by = float("inf")

    def always(self, name: str, run: Run) -> None:
        """Adds a part for every replica, such as a server; it runs until cancelled."""
        self._always[name] = run

    def cached(self, reflector: Reflector[Any]) -> None:
        """Adds a cache's reflector, for every replica; leading waits until it is synced."""
        self._reflectors.append(reflector)

    def leading(self, name: str, run: Run) -> None:
        """Adds a part that only the leader runs, such as a controller; until cancelled."""
        self._leading[name] = run

    def dead(self) -> list[str]:
        """What is wrong so that only a restart helps, a sentence each; for `/healthz`."""
        return [f"{name} has ended" for name in self._dead]

    def unsynced(self) -> list[str]:
        """Which caches are still being filled, a sentence each; for `/readyz`."""
        return [
            f"the cache of {each.name} is not filled yet"
            for each in self._reflectors
            if not each.cache.synced.is_set()
        ]

    async def run(self) -> int:
        """Starts all parts, and returns once all have stopped.

        Stops on SIGTERM and SIGINT, in reverse order. Whatever has not stopped 9 s later, or by
        the end of a lost term, dies with the process.

        Returns:
            The exit status: 0 after a signal, 1 after a crash or a lost lease.
        """
        this = asyncio.current_task()
        assert this is not None
        with self._signals(this), self._guarded():
            try:
                await self._live()
            except asyncio.CancelledError:
                if not self._stopping:
                    raise
                this.uncancel()
            except BaseExceptionGroup as group:
                _explain(group)
                return 1
        log.info("stopped")
        return 0

    @contextmanager
    def _signals(self, this: asyncio.Task[Any]) -> Iterator[None]:
        """Has the first SIGTERM or SIGINT stop the task, and the second one end the process."""
        loop = asyncio.get_running_loop()

        def stop(name: str) -> None:
            if self._stopping:
                log.warning("second signal: ending at once", signal=name)
                os._exit(1)
            log.info("stopping", signal=name)
            self._stopping = True
            self._hurry()
            this.cancel()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop, number.name)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Ends the process when it is late, from a thread that a stuck event loop cannot stop."""
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(0.25):
                last_moment = self._leader.last_moment if self._leader else None
                if time.monotonic() >= min(self._gone_by, last_moment or self._gone_by):
                    os.write(2, b"did not stop in time: ending at once\n")
                    os._exit(1)

        threading.Thread(target=watch, name="guard", daemon=True).start()
        try:
            yield
        finally:
            ended.set()

    async def _live(self) -> None:
        reflectors = {f"reflector of {each.name}": each.run for each in self._reflectors}
        async with self._stage(self._always), self._stage(reflectors):
            for each in self._reflectors:
                await each.cache.synced.wait()
            _settle_memory()
            log.info("caches are filled", kinds=[each.name for each in self._reflectors])
            if self._leader is None:
                await self._lead()
            else:
                leader = self._leader
                async with self._stage({"leader election": lambda: leader.run(self._lead)}):
                    await _forever()

    async def _lead(self) -> None:
        async with self._stage(self._leading):
            await _forever()

    @asynccontextmanager
    async def _stage(self, parts: Mapping[str, Run]) -> AsyncIterator[None]:
        """Runs the parts while the body lasts; the body's end stops them, a part's end stops it."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._part(*each), name=each[0]) for each in parts.items()]
            yield
            for task in tasks:
                task.cancel()

    async def _part(self, name: str, run: Run) -> None:
        ended = True
        try:
            await run()
        except asyncio.CancelledError:
            ended = False
            raise
        finally:
            if ended:
                self._dead.append(name)
                self._hurry()
        raise EndedEarly(f"{name} ended by itself")

    def _hurry(self) -> None:
        self._gone_by = min(self._gone_by, time.monotonic() + STOP_SECONDS)


async def _forever() -> None:
    await asyncio.Event().wait()


def _settle_memory() -> None:
    """Takes what the caches hold out of the collector's sight, and has it look less often.

    It would otherwise walk the whole resident heap over and over during each list and pass.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)


def _explain(group: BaseExceptionGroup[BaseException]) -> None:
    for error in _leaves(group):
        if isinstance(error, ControlError | LeadershipLost | EndedEarly):
            log.error("the process ends", cause=str(error))
        else:
            log.error("a part crashed; the process ends", exc_info=error)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error
