"""From changed objects through the queue to workers, and from a pass's error to its retry.

Invariant: one pass per key at a time; every change of a watched object is followed by a pass that
began after it; an error ends the pass, never the worker.
"""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

from controlkit import metrics
from controlkit.cache import Cache
from controlkit.clock import Clock, SystemClock
from controlkit.errors import Blocked, ControlError, Rejected, Stale, Transient
from controlkit.kube.objects import Key, KubeObject
from controlkit.queue import WorkQueue

T = TypeVar("T", bound=KubeObject)

log = structlog.get_logger(__name__)

OWN_READS_SECONDS = 5.0


@dataclass(frozen=True)
class Result:
    """How a pass that did not fail ended.

    Attributes:
        after: seconds until the key shall be looked at again, whatever happens; None when only a
            change can make a difference.
    """

    after: float | None = None


@dataclass(frozen=True, slots=True)
class _Hold:
    cache: Cache[Any]
    object_key: Key
    resource_version: str
    until: float

    @property
    def subject(self) -> tuple[int, Key]:
        """What has to show: an object of a cache."""
        return id(self.cache), self.object_key


class Controller:
    """Runs `reconcile(key)` whenever something about the key may have changed."""

    def __init__(
        self,
        name: str,
        reconcile: Callable[[Key], Awaitable[Result]],
        *,
        workers: int = 10,
        deadline: float = 60.0,
        clock: Clock | None = None,
    ) -> None:
        """A controller at rest.

        Args:
            name: label of logs and metrics.
            reconcile: one pass; reads the world anew each time.
            workers: passes at once.
            deadline: seconds a pass may take before it is cut off and retried.
            clock: measures delays.
        """
        self.name = name
        self._reconcile = reconcile
        self._workers = workers
        self._deadline = deadline
        self._clock: Clock = clock or SystemClock()
        self._queue = WorkQueue(name, clock=self._clock)
        self._sources: list[tuple[Cache[Any], Callable[[], None]]] = []
        self._holds: dict[Key, list[_Hold]] = {}
        self._held_for: dict[tuple[int, Key], set[Key]] = {}
        self._listening: set[int] = set()

    def watch(self, cache: Cache[T], to_keys: Callable[[T], Iterable[Key]]) -> None:
        """Looks at `to_keys(object)` whenever an object of the cache changes.

        Both the state before a change and the one after it are asked, so that an object which
        moves from one owner to another concerns both. Counts from `run` on, which begins by
        looking at every object there is.
        """
        started = False

        def on_change(old: T | None, new: T | None) -> None:
            urgent = started and _is_edit(old, new)
            for item in (old, new):
                if item is not None:
                    for key in to_keys(item):
                        self._queue.add(key, priority=urgent)

        def start() -> None:
            nonlocal started
            cache.subscribe(on_change)
            started = True

        self._sources.append((cache, start))

    def enqueue(self, key: Key, *, after: float = 0.0) -> None:
        """Has a key looked at, at the latest after that many seconds."""
        self._queue.add_after(key, after)

    def hold(self, key: Key, cache: Cache[Any], object_key: Key, resource_version: str) -> None:
        """Lets no pass on `key` begin until the cache shows our own write, or 5 s have passed.

        Args:
            key: whose passes wait.
            cache: where the written object will appear.
            object_key: the object that was written.
            resource_version: what the write answered.
        """
        if cache.shows(object_key, resource_version):
            return
        until = self._clock.monotonic() + OWN_READS_SECONDS
        hold = _Hold(cache, object_key, resource_version, until)
        self._holds.setdefault(key, []).append(hold)
        self._held_for.setdefault(hold.subject, set()).add(key)
        if id(cache) not in self._listening:
            self._listening.add(id(cache))

            def on_change(old: KubeObject | None, new: KubeObject | None) -> None:
                changed = new or old
                if changed is not None:
                    for waiting in self._held_for.pop((id(cache), changed.key), ()):
                        self._queue.add(waiting)

            cache.subscribe(on_change)

    def failures(self, key: Key) -> int:
        """Failed passes on this key since the last success; stale reads do not count."""
        return self._queue.failures(key)

    async def run(self) -> None:
        """Waits until the watched caches are synced, then works until cancelled."""
        for cache, _ in self._sources:
            await cache.synced.wait()
        for _, start in self._sources:
            start()
        metrics.MAX_WORKERS.labels(self.name).set(self._workers)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._queue.run(), name=f"{self.name} timers")
            for number in range(self._workers):
                group.create_task(self._work(), name=f"{self.name} worker {number}")

    async def _work(self) -> None:
        while True:
            key = await self._queue.get()
            try:
                if waits := self._still_held(key):
                    self._queue.add_after(key, waits)
                else:
                    await self._pass(key)
            finally:
                self._queue.done(key)

    def _still_held(self, key: Key) -> float:
        """Seconds that a pass on this key has to wait for our own writes at most; 0 for none."""
        now = self._clock.monotonic()
        open_holds = []
        for hold in self._holds.pop(key, ()):
            if now < hold.until and not hold.cache.shows(hold.object_key, hold.resource_version):
                open_holds.append(hold)
                self._held_for.setdefault(hold.subject, set()).add(key)
            else:
                self._forget(hold.subject, key)
        if not open_holds:
            return 0.0
        self._holds[key] = open_holds
        return max(hold.until for hold in open_holds) - now

    def _forget(self, subject: tuple[int, Key], key: Key) -> None:
        waiting = self._held_for.get(subject, set())
        waiting.discard(key)
        if not waiting:
            self._held_for.pop(subject, None)

    async def _pass(self, key: Key) -> None:
        began = time.perf_counter()
        bound = structlog.contextvars.bound_contextvars(
            controller=self.name, object=str(key), reconcile_id=uuid.uuid4().hex[:8]
        )
        with bound, metrics.ACTIVE_WORKERS.labels(self.name).track_inprogress():
            outcome = await self._outcome(key)
        metrics.RECONCILES.labels(self.name, outcome).inc()
        metrics.RECONCILE_SECONDS.labels(self.name).observe(time.perf_counter() - began)

    async def _outcome(self, key: Key) -> str:
        """Runs one pass and tells the queue; this is the kit's door for bugs of controllers."""
        try:
            async with asyncio.timeout(self._deadline) as limit:
                result = await self._reconcile(key)
        except ControlError as error:
            return self._failed(key, error)
        except Exception as error:  # noqa: BLE001  (the door for bugs of a controller)
            if isinstance(error, TimeoutError) and limit.expired():
                return self._failed(
                    key, Transient("PassTooLong", f"a pass took over {self._deadline:g} s")
                )
            return self._crashed(key, error)
        self._queue.forget(key)
        if result.after is None:
            return "success"
        self._queue.add_after(key, result.after)
        return "requeue_after"

    def _failed(self, key: Key, error: ControlError) -> str:
        delay = self._queue.retry(key, error)
        if isinstance(error, Stale):
            log.debug("read was stale", reason=error.reason, detail=error.message)
            return "requeue"
        said = {"reason": error.reason, "detail": error.message, "retry_in": delay}
        match error:
            case Rejected():
                metrics.TERMINAL_ERRORS.labels(self.name).inc()
                log.warning("rejected; waits for an edit", **said)
            case Blocked():
                log.warning("blocked from outside", **said)
            case _:
                log.warning("pass failed", failures=self.failures(key), **said)
        metrics.RECONCILE_ERRORS.labels(self.name).inc()
        return "error"

    def _crashed(self, key: Key, error: Exception) -> str:
        delay = self._queue.retry(key, error)
        metrics.RECONCILE_ERRORS.labels(self.name).inc()
        metrics.RECONCILE_PANICS.labels(self.name).inc()
        log.error("pass failed by a bug", retry_in=delay, exc_info=error)
        return "error"


def _is_edit(old: KubeObject | None, new: KubeObject | None) -> bool:
    """Whether a person's change may be behind this: new, gone, another spec, or to be deleted."""
    if old is None or new is None:
        return True
    return old.metadata.generation != new.metadata.generation or old.deleting != new.deleting
