"""What Azure last said of the cluster's pools, kept in memory and kept fresh by one LIST for all.

Invariant: a pass over a claim never waits for Azure to learn how its pool is; and an answer to a
question that was sent before our own change never hides that change.
"""

import asyncio
from collections.abc import Callable

import structlog

from controlkit.clock import Clock, wait_for
from gpu_provisioner.azure import metrics
from gpu_provisioner.azure.errors import AzureError, Failure
from gpu_provisioner.azure.pools import Pool, Pools
from gpu_provisioner.azure.turns import Turns

log = structlog.get_logger()

BUSY_EVERY = 10.0
"""Seconds between two LISTs while an operation runs somewhere; less while it is young."""

YOUNG_EVERY = 1.0
"""Seconds between two LISTs just after something changed."""

IDLE_EVERY = 60.0
"""Seconds between two LISTs while nothing is expected to happen."""

TROUBLED_FIRST, TROUBLED_MOST = 5.0, 30.0
"""Pauses while Azure fails: it is one question for all, and its recovery is to be noticed soon."""

_APART = 1.0
_CREDIBLE_FAILURES = 3
_LIST = "(list)"

Listener = Callable[[frozenset[str] | None], None]
"""Called after every list that was answered, with the names of pools that changed; with None when
the view as a whole has changed: it came, it failed, or it came back."""


class PoolDirectory:
    """The cluster's agent pools, as Azure last told them."""

    def __init__(self, pools: Pools, turns: Turns, clock: Clock) -> None:
        self._pools = pools
        self._turns = turns
        self._clock = clock
        self._known: dict[str, Pool] = {}
        self._learned: dict[str, float] = {}
        self._listeners: list[Listener] = []
        self._wanted = asyncio.Event()
        self._due = clock.monotonic()
        self._asked = clock.monotonic()
        self._changed = self._asked
        self._failures = 0
        self._trouble: Failure | None = None
        self._told: float | None = None

    @property
    def known(self) -> bool:
        """Azure has told all the pools at least once."""
        return self._told is not None

    @property
    def sound(self) -> bool:
        """The last list was answered."""
        return self.known and self._failures == 0

    @property
    def trouble(self) -> Failure | None:
        """Why the view cannot be trusted now; None when it can."""
        if self.known and self._failures < _CREDIBLE_FAILURES:
            return None
        return self._trouble

    @property
    def age(self) -> float | None:
        """Seconds since the question whose answer this view is; None when there was no answer."""
        return self._clock.monotonic() - self._told if self._told is not None else None

    @property
    def subnets(self) -> tuple[str, str]:
        """Node and pod subnet of the cluster's own pools, which all pools must share."""
        own = (pool for pool in self._known.values() if pool.system)
        return next(((pool.subnet, pool.pod_subnet) for pool in own), ("", ""))

    def __len__(self) -> int:
        return len(self._known)

    def get(self, name: str) -> Pool | None:
        """The pool of that name."""
        return self._known.get(name)

    def all(self) -> list[Pool]:
        """Every pool, AKS's own included."""
        return list(self._known.values())

    def subscribe(self, listener: Listener) -> None:
        """Calls back after each list that was answered, and when lists begin to fail."""
        self._listeners.append(listener)

    def learn(self, pool: Pool) -> None:
        """Takes in what Azure answered to a call about one pool."""
        self._known[pool.name] = pool
        self._changed = self._learned[pool.name] = self._clock.monotonic()
        self.look_within(YOUNG_EVERY)

    def forget(self, name: str) -> None:
        """Takes in that Azure has no such pool."""
        self._known.pop(name, None)
        self._learned[name] = self._clock.monotonic()

    def look_within(self, seconds: float) -> None:
        """Asks for a LIST at most that many seconds from now."""
        due = self._clock.monotonic() + seconds
        # While Azure fails, the pace is its own.
        if due < self._due and not self._failures:
            self._due = due
            self._wanted.set()

    async def run(self) -> None:
        """Lists again and again, until cancelled."""
        while True:
            await self.refresh()
            while (left := self._next() - self._clock.monotonic()) > 0:
                self._wanted.clear()
                await wait_for(self._clock, self._wanted, left)

    def _next(self) -> float:
        return max(self._due, self._asked + _APART)

    async def refresh(self) -> None:
        """Lists once, if it may; `run` does so whenever it is time."""
        self._asked = self._clock.monotonic()
        wait = self._turns.wait(_LIST)
        if wait > 0:
            self._due = self._asked + wait
            return
        self._turns.take(_LIST)
        try:
            pools = await self._pools.list()
        except AzureError as error:
            self._failed(error.failure)
        else:
            self._take_in({pool.name: pool for pool in pools})

    def _failed(self, failure: Failure) -> None:
        had = self.trouble
        self._failures += 1
        if self._trouble is None or self._trouble.kind != failure.kind:
            # The same failure comes with another trace id each time, which is no news.
            self._trouble = failure
        wait = failure.wait(self._failures)
        if failure.kind == "throttled":
            self._turns.pause(wait)
        pause = min(TROUBLED_MOST, TROUBLED_FIRST * 2.0 ** min(self._failures - 1, 10))
        self._due = self._clock.monotonic() + min(wait, pause)
        log.warning("pools could not be listed", reason=failure.reason, detail=failure.message)
        if self.trouble != had:
            self._tell(None)

    def _take_in(self, told: dict[str, Pool]) -> None:
        recovered = self._failures > 0 or not self.known
        self._failures, self._trouble, self._told = 0, None, self._asked
        newer = {name for name, moment in self._learned.items() if moment >= self._asked}
        for name in newer:
            told.pop(name, None)
            if name in self._known:
                told[name] = self._known[name]
        changed = frozenset(
            name
            for name in told.keys() | self._known.keys()
            if told.get(name) != self._known.get(name)
        )
        if changed:
            self._changed = self._asked
        self._known = told
        self._learned = {name: self._learned[name] for name in newer}

        busy = any(pool.state not in {"Succeeded", "Failed"} for pool in told.values())
        self._due = self._asked + (self._busy_pause() if busy else IDLE_EVERY)
        metrics.POOLS.set(len(told))
        self._tell(None if recovered else changed)

    def _busy_pause(self) -> float:
        """Half as long as nothing has changed: no end is seen much later than it took to come."""
        return min(max((self._asked - self._changed) / 2, YOUNG_EVERY), BUSY_EVERY)

    def _tell(self, names: frozenset[str] | None) -> None:
        for listener in self._listeners:
            listener(names)
