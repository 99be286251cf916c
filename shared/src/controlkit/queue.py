"""A work queue that holds each key at most once and decides when a failed one comes back.

Invariant: a key that was added is handed out again at least once afterwards; it is never with two
workers at once, nor twice in line.
"""

import asyncio
import heapq
import random
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from controlkit.clock import Clock, SystemClock, wait_for
from controlkit.errors import Blocked, Rejected, Stale, Transient
from controlkit.kube.objects import Key
from controlkit.metrics import QUEUE_ADDS, QUEUE_DEPTH, QUEUE_RETRIES, QUEUE_SECONDS, WORK_SECONDS
from controlkit.rate import TokenBucket

STALE_FIRST, STALE_MOST = 0.05, 5.0
RETRY_FIRST, RETRY_MOST = 0.5, 300.0
RETRIES_PER_SECOND, RETRY_BURST = 50.0, 100.0
_CHANCE = random.SystemRandom().random


class QueueClosed(Exception):
    """The queue was closed: there will be no more keys."""


@dataclass(slots=True)
class _Tries:
    stale: int = 0
    failed: int = 0


class WorkQueue:
    """Keys for one controller's workers; delays end only while `run` is running.

    A pass decides anew when to look at its key again: handing a key out drops the timers that it
    had, and a timer set meanwhile counts for the next pass.
    """

    def __init__(
        self,
        name: str = "",
        *,
        clock: Clock | None = None,
        chance: Callable[[], float] = _CHANCE,
    ) -> None:
        """An empty queue.

        Args:
            name: label of its metrics.
            clock: measures the delays.
            chance: a number from 0 to 1 for the jitter.
        """
        self._clock: Clock = clock or SystemClock()
        self._chance = chance
        self._closed = False
        self._ready = asyncio.Semaphore(0)  # its value is the number of keys in line
        self._urgent: OrderedDict[Key, float] = OrderedDict()
        self._normal: OrderedDict[Key, float] = OrderedDict()
        self._busy: dict[Key, float] = {}
        self._again: dict[Key, bool] = {}
        self._due: dict[Key, float] = {}
        self._timers: list[tuple[float, Key]] = []
        self._earlier = asyncio.Event()
        self._tries: dict[Key, _Tries] = {}
        self._bucket = TokenBucket(rate=RETRIES_PER_SECOND, burst=RETRY_BURST)
        self._depth = QUEUE_DEPTH.labels(name)
        self._adds = QUEUE_ADDS.labels(name)
        self._retries = QUEUE_RETRIES.labels(name)
        self._waited = QUEUE_SECONDS.labels(name)
        self._worked = WORK_SECONDS.labels(name)

    def __len__(self) -> int:
        return len(self._urgent) + len(self._normal)

    def add(self, key: Key, *, priority: bool = False) -> None:
        """Puts a key in line, or has it come again when a worker holds it.

        Args:
            key: what to look at.
            priority: goes before all that is not, as an edit by a person should.
        """
        if key in self._busy:
            self._again[key] = priority or self._again.get(key, False)
            return
        if key in self._urgent:
            return
        since = self._normal.get(key)
        if since is None:
            since = time.perf_counter()
            self._adds.inc()
            self._depth.inc()
            self._ready.release()
        elif priority:
            del self._normal[key]
        line = self._urgent if priority else self._normal
        line[key] = since

    def add_after(self, key: Key, seconds: float) -> None:
        """Puts a key in line after a delay; of several delays the earliest counts."""
        if seconds <= 0:
            self.add(key)
            return
        due = self._clock.monotonic() + seconds
        if due >= self._due.get(key, float("inf")):
            return
        if not self._timers or due < self._timers[0][0]:
            self._earlier.set()
        self._due[key] = due
        heapq.heappush(self._timers, (due, key))
        if len(self._timers) > 2 * len(self._due) + 64:  # most are dropped ones
            self._timers = [(due, key) for key, due in self._due.items()]
            heapq.heapify(self._timers)

    def retry(self, key: Key, error: BaseException) -> float | None:
        """Brings a failed key back when its kind of failure may have passed.

        Returns:
            The delay in seconds; None when only an edit, and so a watch event, can help.
        """
        delay = self._delay(self._tries.setdefault(key, _Tries()), error)
        if delay is not None:
            self._retries.inc()
            self.add_after(key, delay)
        return delay

    def _delay(self, tries: _Tries, error: BaseException) -> float | None:
        if isinstance(error, Stale):
            tries.stale += 1
            return self._back_off(STALE_FIRST, STALE_MOST, tries.stale)
        tries.failed += 1
        match error:
            case Rejected():
                return None
            case Blocked(retry_after=seconds):
                return seconds * (1 + self._chance() / 10)
            case Transient(retry_after=float() | int() as asked):
                return max(asked * (1 + self._chance() / 10), self._back_off_shared(tries))
            case _:
                return self._back_off_shared(tries)

    def _back_off_shared(self, tries: _Tries) -> float:
        """When much fails at once, the whole queue's retries share a rate."""
        own = self._back_off(RETRY_FIRST, RETRY_MOST, tries.failed)
        return max(own, self._bucket.reserve(self._clock.monotonic()))

    def _back_off(self, first: float, most: float, tries: int) -> float:
        full = min(most, first * 2.0 ** min(tries - 1, 30))
        return full * (1 + self._chance()) / 2

    def forget(self, key: Key) -> None:
        """A pass succeeded: its failures count no more."""
        self._tries.pop(key, None)

    def failures(self, key: Key) -> int:
        """Failed passes since the last success; stale reads do not count."""
        tries = self._tries.get(key)
        return tries.failed if tries else 0

    async def get(self) -> Key:
        """The next key, which is the caller's until `done`.

        Raises:
            QueueClosed: there will be no more.
        """
        await self._ready.acquire()
        if self._closed:
            self._ready.release()  # wakes the next worker in turn
            raise QueueClosed
        line = self._urgent or self._normal
        key, since = line.popitem(last=False)
        now = time.perf_counter()
        self._busy[key] = now
        self._due.pop(key, None)
        self._depth.dec()
        self._waited.observe(now - since)
        return key

    def done(self, key: Key) -> None:
        """The worker lets go of the key, which may be handed out again.

        Raises:
            KeyError: no worker holds it.
        """
        began = self._busy.pop(key)
        self._worked.observe(time.perf_counter() - began)
        priority = self._again.pop(key, None)
        if priority is not None:
            self.add(key, priority=priority)

    def close(self) -> None:
        """Ends every `get`, now and later."""
        self._closed = True
        self._ready.release()

    async def run(self) -> None:
        """Puts delayed keys in line when they are due, until cancelled."""
        while True:
            self._earlier.clear()
            remaining = self._expire()
            if remaining is None:
                await self._earlier.wait()
            else:
                await wait_for(self._clock, self._earlier, remaining)

    def _expire(self) -> float | None:
        """Puts all due keys in line; returns the seconds until the next one is due."""
        now = self._clock.monotonic()
        while self._timers:
            due, key = self._timers[0]
            current = self._due.get(key) == due
            if current and due > now:
                return due - now
            heapq.heappop(self._timers)
            if current:
                del self._due[key]
                self.add(key)
        return None
