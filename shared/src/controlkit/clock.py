"""The one place the kit reads time, so that tests can own it.

Invariant: wall time is aware and UTC; spans are measured with the monotonic clock, never with
wall time, which an operator or NTP may set back.
"""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Wall time, monotonic time and sleep."""

    def now(self) -> datetime:
        """The wall time, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Returns after that many seconds; at once when zero or negative."""
        ...


class SystemClock:
    """The machine's clock; sleeps on the running event loop."""

    def now(self) -> datetime:
        """The wall time, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds since boot."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Suspends the calling task."""
        await asyncio.sleep(max(0.0, seconds))


async def wait_for(clock: Clock, event: asyncio.Event, seconds: float) -> bool:
    """Waits for the event, at most `seconds` by this clock; says whether it is set."""
    async with asyncio.TaskGroup() as group:
        sleeper = group.create_task(clock.sleep(seconds))
        waiter = group.create_task(event.wait())
        await asyncio.wait({sleeper, waiter}, return_when=asyncio.FIRST_COMPLETED)
        sleeper.cancel()
        waiter.cancel()
    return event.is_set()
