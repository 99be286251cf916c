"""Kubernetes Events: what a person can act on, once, with a count.

Invariant: recording never blocks and never fails the caller; memory and the number of writes are
bounded whatever is recorded.
"""

import asyncio
import heapq
import uuid
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any, Literal

import structlog

from controlkit.clock import Clock, SystemClock, wait_for
from controlkit.errors import AlreadyExists, ControlError, NotFound, Transient
from controlkit.kube.client import KubeClient
from controlkit.kube.objects import Key, KubeObject, Resource
from controlkit.metrics import EVENTS_DROPPED
from controlkit.rate import TokenBucket

log = structlog.get_logger(__name__)

EVENTS = Resource("", "v1", "events", "Event")

WINDOW_SECONDS = 120.0
REMEMBERED = 4096
WAITING_MOST = 1000
PER_OBJECT_RATE, PER_OBJECT_BURST = 1 / 60, 25
WRITES_RATE, WRITES_BURST = 20.0, 100
TRIES = 5
MESSAGE_LENGTH = 1024


@dataclass(slots=True, eq=False)
class _Record:
    """One event and its repetitions."""

    manifest: dict[str, Any]
    last: datetime
    count: int = 1
    created: bool = False
    waiting: bool = False
    tries: int = 0
    written_at: float = field(default=float("-inf"))


class EventRecorder:
    """Writes Events while `run` runs.

    A repetition (same object, type, reason and message) within two minutes of the last write is
    counted and written when the two minutes are over. One object gets 25 different events at
    once and then one a minute.
    """

    def __init__(
        self, client: KubeClient, *, component: str, clock: Clock | None = None, instance: str = ""
    ) -> None:
        """A recorder at rest.

        Args:
            client: where to write.
            component: who reports, as `kubectl describe` shows it.
            clock: dates the events.
            instance: which replica of the component.
        """
        self._client = client
        self._component = component
        self._instance = instance or component
        self._clock: Clock = clock or SystemClock()
        self._records: OrderedDict[tuple[str, ...], _Record] = OrderedDict()
        self._limits: OrderedDict[str, TokenBucket] = OrderedDict()
        self._writes = TokenBucket(rate=WRITES_RATE, burst=WRITES_BURST)
        self._waiting: list[tuple[float, int, _Record]] = []
        self._order = count()
        self._changed = asyncio.Event()

    def event(
        self,
        about: KubeObject,
        type: Literal["Normal", "Warning"],  # noqa: A002  (the API's own word)
        reason: str,
        message: str,
    ) -> None:
        """Records an event; returns at once.

        Args:
            about: the object whose `kubectl describe` shall show it.
            type: Warning for what a person should look into.
            reason: CamelCase word.
            message: one sentence; what exceeds 1024 characters is cut off.
        """
        message = _shortened(message)
        subject = about.metadata.uid or f"{about.RESOURCE.kind} {about.key}"
        likeness = (subject, type, reason, message)
        now = self._clock.now()
        record = self._records.get(likeness)
        if record is None:
            if not self._limit(subject).take(self._clock.monotonic()):
                EVENTS_DROPPED.labels("object").inc()
                return
            record = _Record(self._manifest(about, type, reason, message, now), now)
            self._records[likeness] = record
            if len(self._records) > REMEMBERED:
                self._records.popitem(last=False)
        else:
            self._records.move_to_end(likeness)
            record.count += 1
            record.last = now
        self._schedule(record, record.written_at + WINDOW_SECONDS)

    async def run(self) -> None:
        """Writes what is recorded, until cancelled."""
        while True:
            self._changed.clear()
            if not self._waiting:
                await self._changed.wait()
                continue
            due, _, record = self._waiting[0]
            remaining = due - self._clock.monotonic()
            if remaining > 0:
                await wait_for(self._clock, self._changed, remaining)
                continue
            heapq.heappop(self._waiting)
            record.waiting = False
            await self._clock.sleep(self._writes.reserve(self._clock.monotonic()))
            await self._write(record)

    def _schedule(self, record: _Record, due: float) -> None:
        if record.waiting:
            return
        if len(self._waiting) >= WAITING_MOST:
            EVENTS_DROPPED.labels("queue").inc()
            return
        record.waiting = True
        heapq.heappush(self._waiting, (due, next(self._order), record))
        self._changed.set()

    async def _write(self, record: _Record) -> None:
        record.written_at = self._clock.monotonic()
        metadata = record.manifest["metadata"]
        facts = {"count": record.count, "lastTimestamp": _stamp(record.last)}
        try:
            if record.created:
                key = Key(metadata["namespace"], metadata["name"])
                await self._client.merge_patch(EVENTS, key, facts)
            else:
                await self._client.create(EVENTS, record.manifest | facts)
        except AlreadyExists:  # the answer to an earlier try was lost: names are ours alone
            record.created, record.tries = True, 0
            if record.count > 1:  # that try may have counted less
                self._schedule(record, record.written_at + WINDOW_SECONDS)
        except ControlError as error:
            self._failed(record, error)
        else:
            record.created, record.tries = True, 0

    def _failed(self, record: _Record, error: ControlError) -> None:
        record.tries += 1
        if record.created and isinstance(error, NotFound):  # it outlived its hour in the cluster
            record.created = False
            metadata = record.manifest["metadata"]
            stem = metadata["name"].rpartition(".")[0]
            record.manifest["metadata"] = metadata | {"name": _name(stem)}
            self._schedule(record, self._clock.monotonic())
        elif isinstance(error, Transient) and record.tries < TRIES:
            self._schedule(record, self._clock.monotonic() + 2.0**record.tries)
        else:
            EVENTS_DROPPED.labels("refused").inc()
            log.warning(
                "event not written",
                about=record.manifest["reason"],
                reason=error.reason,
                detail=error.message,
            )

    def _limit(self, subject: str) -> TokenBucket:
        limit = self._limits.get(subject)
        if limit is None:
            limit = TokenBucket(rate=PER_OBJECT_RATE, burst=PER_OBJECT_BURST)
            self._limits[subject] = limit
            if len(self._limits) > REMEMBERED:
                self._limits.popitem(last=False)
        return limit

    def _manifest(
        self, about: KubeObject, severity: str, reason: str, message: str, now: datetime
    ) -> dict[str, Any]:
        """The Event; those of cluster-scoped objects live in the namespace `default`."""
        meta = about.metadata
        involved = {
            "apiVersion": about.RESOURCE.api_version,
            "kind": about.RESOURCE.kind,
            "namespace": meta.namespace,
            "name": meta.name,
            "uid": meta.uid,
            "resourceVersion": meta.resource_version,
        }
        return {
            "metadata": {"name": _name(meta.name), "namespace": meta.namespace or "default"},
            "involvedObject": {name: value for name, value in involved.items() if value},
            "type": severity,
            "reason": reason,
            "message": message,
            "firstTimestamp": _stamp(now),
            "source": {"component": self._component},
            "reportingComponent": self._component,
            "reportingInstance": self._instance,
        }


def _name(stem: str) -> str:
    return f"{stem[:200]}.{uuid.uuid4().hex[:16]}"


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _shortened(message: str) -> str:
    return message if len(message) <= MESSAGE_LENGTH else message[: MESSAGE_LENGTH - 1] + "…"
