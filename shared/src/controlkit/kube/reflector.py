"""Keeps a cache equal to a collection of the API server: list, watch, and start over when needed.

Invariant: it never gives up and never hammers; whatever happened while it was not looking shows
up in the cache's next state.
"""

import logging
import random
from contextlib import aclosing
from typing import Generic, TypeVar

import structlog

from controlkit.cache import Cache
from controlkit.clock import Clock, SystemClock
from controlkit.errors import ControlError, NotFound, Transient
from controlkit.kube.client import KubeClient
from controlkit.kube.decode import WatchEvent
from controlkit.kube.errors import Expired
from controlkit.kube.objects import KubeObject
from controlkit.metrics import LISTS

T = TypeVar("T", bound=KubeObject)

log = structlog.get_logger(__name__)

PAUSE_FIRST, PAUSE_MOST = 0.2, 30.0
WATCH_SHORTEST, WATCH_LONGEST = 300.0, 600.0
HEALTHY_SECONDS = 5.0
_random = random.SystemRandom()


class Reflector(Generic[T]):
    """Feeds one cache.

    Attributes:
        cache: what it keeps current.
        name: the kind it follows, for logs.
    """

    def __init__(
        self,
        client: KubeClient,
        cache: Cache[T],
        *,
        namespace: str | None = None,
        label_selector: str = "",
        optional: bool = False,
        idle: float = 200.0,
        probe: float = 30.0,
        clock: Clock | None = None,
    ) -> None:
        """A reflector at rest.

        Args:
            client: where to look.
            cache: what to keep current.
            namespace: None for all namespaces.
            label_selector: in the API's syntax.
            optional: the API server may not serve this kind, and then the cache is empty.
            idle: seconds of silence after which a watch counts as dead.
            probe: seconds between looks for a kind that is not served.
            clock: measures the pauses.
        """
        self.cache = cache
        self.name = cache.view.RESOURCE.kind
        self._client = client
        self._namespace = namespace
        self._label_selector = label_selector
        self._optional = optional
        self._idle = idle
        self._probe = probe
        self._clock: Clock = clock or SystemClock()
        self._version = ""
        self._listed = False
        self._fails = 0

    async def run(self) -> None:
        """Follows the collection until cancelled."""
        while True:
            began = self._clock.monotonic()
            problem = await self._follow()
            if self._optional and isinstance(problem, NotFound):
                self._not_served()
                await self._clock.sleep(self._probe)
                continue
            healthy = self._clock.monotonic() - began >= HEALTHY_SECONDS
            self._fails = 0 if healthy else self._fails + 1
            if problem is None and healthy:
                continue
            self._report(problem)
            await self._clock.sleep(self._pause(problem))

    async def _follow(self) -> ControlError | None:
        """Lists if need be and watches; returns what ended it, None for the watch's regular end."""
        try:
            if not self._listed:
                await self._list()
            await self._watch()
        except ControlError as error:
            if isinstance(error, Expired | NotFound):
                self._listed = False
            return error
        return None

    async def _list(self) -> None:
        known, self._version = self._version, ""  # if this fails, ask for the newest next time
        listing = await self._client.list(
            self.cache.view,
            namespace=self._namespace,
            label_selector=self._label_selector,
            not_older_than=known,
        )
        LISTS.labels(self.name, "again" if self.cache.synced.is_set() else "first").inc()
        self._version, self._listed = listing.resource_version, True
        self.cache.served = True
        self.cache.replace(listing.items, listing.resource_version)
        log.info("listed", kind=self.name, objects=len(self.cache))

    async def _watch(self) -> None:
        events = self._client.watch(
            self.cache.view,
            resource_version=self._version,
            namespace=self._namespace,
            label_selector=self._label_selector,
            lasts=_random.uniform(WATCH_SHORTEST, WATCH_LONGEST),
            idle=self._idle,
        )
        async with aclosing(events):
            async for event in events:
                self._take(event)
                self._version = event.resource_version

    def _take(self, event: WatchEvent[T]) -> None:
        if event.type == "DELETED":
            gone = event.object or self.cache.get(event.key)
            if gone is not None:
                self.cache.remove(gone)
        elif event.object is not None:
            self.cache.upsert(event.object)
        self.cache.advance(event.resource_version)

    def _not_served(self) -> None:
        if self.cache.served or not self.cache.synced.is_set():
            log.info("kind is not served; looking again now and then", kind=self.name)
        self.cache.served = False
        self.cache.replace([], "")
        self._version = ""
        self._fails = 0

    def _report(self, problem: ControlError | None) -> None:
        # A quiet kind may be silent for long on a healthy connection: nobody need be told.
        expected = problem is not None and problem.reason == "Silent"
        log.log(
            logging.DEBUG if expected else logging.WARNING,
            "watch broken off" if self._listed else "list needed",
            kind=self.name,
            reason=problem.reason if problem else "Closed",
            detail=problem.message if problem else "the API server closed a watch at once",
            failures=self._fails,
        )

    def _pause(self, problem: ControlError | None) -> float:
        """Seconds until the next try, at most half of them given away to chance."""
        full = min(PAUSE_MOST, PAUSE_FIRST * 2.0 ** min(self._fails, 10))
        asked = problem.retry_after if isinstance(problem, Transient) else None
        return max(full * _random.uniform(0.5, 1.0), asked or 0.0)
