"""Who may come in, how many wait, and when all have left.

Every request that reaches an engine is admitted here and has a deadline that ends it whatever the engine
does, so the counts are always true and a drain always ends.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

import structlog

from runtimes.engines.contract import Refused
from runtimes.serving.metrics import Metrics

Phase = Literal["loading", "ready", "draining"]

ABORT_SECONDS = 5.0

log = structlog.get_logger(__name__)


class Ticket:
    """One admitted request: first it waits, then it runs."""

    def __init__(self, deadline: asyncio.Timeout) -> None:
        self.deadline = deadline
        self.running = False


class Gate:
    """Admits requests while the model is ready and the line is short enough."""

    def __init__(self, metrics: Metrics, *, max_queue: int, request_timeout: float) -> None:
        self._metrics = metrics
        self._max_queue = max_queue
        self._request_timeout = request_timeout
        self._tickets: set[Ticket] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self.phase: Phase = "loading"

    def open(self) -> None:
        """The model is loaded: take requests, unless the server is on its way out."""
        if self.phase == "loading":
            self.phase = "ready"
            self._metrics.ready.set(1)

    def check(self) -> None:
        """Raise `Refused` with status 503 unless new work is taken."""
        if self.phase == "loading":
            raise Refused(
                503,
                "Model not initialized",
                hint="The model is loading: ask GET /ready, or look at kaito_model_download_* in GET /metrics",
                retry_after=10,
            )
        if self.phase == "draining":
            raise Refused(503, "The server is shutting down", retry_after=1)

    @asynccontextmanager
    async def admit(self) -> AsyncIterator[Ticket]:
        """Hold a place from the line to the answer; raises `Refused` with 429, 503 or 504."""
        self.check()
        waiting = sum(not ticket.running for ticket in self._tickets)
        if waiting >= self._max_queue:
            self._metrics.rejected.inc()
            raise Refused(
                429,
                f"Too many requests: {waiting} are waiting (limit {self._max_queue})",
                hint="Send again later, or raise the server's --max_queue",
                retry_after=1,
            )
        deadline = asyncio.timeout(self._request_timeout)
        ticket = Ticket(deadline)
        self._tickets.add(ticket)
        self._count()
        try:
            async with deadline:
                yield ticket
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise self._late() from error
        finally:
            self._tickets.discard(ticket)
            self._count()

    def started(self, ticket: Ticket) -> None:
        """The engine has taken the request out of the line."""
        ticket.running = True
        self._count()

    async def drain(self, seconds: float) -> None:
        """Take no new work, let running work end, and after `seconds` end it."""
        self.phase = "draining"
        self._metrics.ready.set(0)
        log.info("draining", requests=len(self._tickets), seconds=seconds)
        if not await self._left_within(seconds):
            log.warning("ending requests that are still running", requests=len(self._tickets))
            for ticket in self._tickets:
                ticket.deadline.reschedule(asyncio.get_running_loop().time())
            await self._left_within(ABORT_SECONDS)

    async def _left_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True

    def _late(self) -> Refused:
        if self.phase == "draining":
            return Refused(
                503, "The server shut down before the answer was complete", retry_after=1
            )
        return Refused(
            504,
            f"No answer within {self._request_timeout:g} s",
            hint="Ask for fewer tokens, or raise the server's --request_timeout",
        )

    def _count(self) -> None:
        running = sum(ticket.running for ticket in self._tickets)
        self._metrics.running.set(running)
        self._metrics.waiting.set(len(self._tickets) - running)
        if self._tickets:
            self._empty.clear()
        else:
            self._empty.set()
