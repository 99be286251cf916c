"""Elects one leader among the replicas through a Lease.

Invariant: a leader stops leading before any other replica may begin. It counts its term from
before the request that renewed it, by the monotonic clock, and others wait the whole term from
when they saw the renewal, by theirs; so wall clocks need not agree.
"""

import asyncio
import random
import socket
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import structlog

from controlkit.clock import Clock, SystemClock
from controlkit.errors import Blocked, ControlError, NotFound, Stale
from controlkit.kube.client import KubeClient
from controlkit.kube.objects import ApiModel, Key, KubeObject, MicroTime, Resource
from controlkit.metrics import LEADER

log = structlog.get_logger(__name__)

_random = random.SystemRandom()


class LeadershipLost(Exception):
    """Another replica may lead from now on: this process must end."""


class LeaseSpec(ApiModel):
    """The term of office."""

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: MicroTime | None = None
    renew_time: MicroTime | None = None
    lease_transitions: int | None = None


class Lease(KubeObject):
    """Who leads, and for how long."""

    RESOURCE: ClassVar[Resource] = Resource("coordination.k8s.io", "v1", "leases", "Lease")

    spec: LeaseSpec = LeaseSpec()


@dataclass(frozen=True, slots=True)
class _Sighting:
    """When this version of the lease came to our eyes, by the monotonic clock."""

    version: str
    at: float


def unique_identity() -> str:
    """A name for this process that no other has, nor this program after a restart."""
    return f"{socket.gethostname()}_{uuid.uuid4().hex[:12]}"


class LeaderElector:
    """A candidate for one Lease."""

    def __init__(
        self,
        client: KubeClient,
        *,
        name: str,
        namespace: str,
        identity: str,
        clock: Clock | None = None,
        lease: float = 15.0,
        renew: float = 10.0,
        retry: float = 2.0,
    ) -> None:
        """A candidate at rest.

        Args:
            client: where the Lease lies.
            name: of the Lease.
            namespace: of the Lease.
            identity: of this process; see `unique_identity`.
            clock: measures terms.
            lease: seconds that others wait after the last renewal they saw; whole.
            renew: seconds without a renewal after which we stop leading.
            retry: seconds between tries.

        Raises:
            ValueError: the spans are not each longer than the next.
        """
        if not lease > renew > retry > 0:
            raise ValueError(f"need lease > renew > retry > 0, got {lease}, {renew}, {retry}")
        self._client = client
        self._key = Key(namespace, name)
        self._identity = identity
        self._clock: Clock = clock or SystemClock()
        self._lease, self._renew, self._retry = lease, renew, retry
        self._pause = retry
        self._renewed_at: float | None = None
        self._version = ""
        self._seen = _Sighting("", 0.0)

    @property
    def leading(self) -> bool:
        """Whether we lead: we hold the lease and renewed it in time."""
        return self._renewed_at is not None and self._left() > 0

    @property
    def last_moment(self) -> float | None:
        """When a leader's process must be gone by all means; None outside a term.

        A moment of the monotonic clock, halfway between the end of leading and the moment from
        which another may lead.
        """
        if self._renewed_at is None:
            return None
        return self._renewed_at + (self._renew + self._lease) / 2

    async def run(self, lead: Callable[[], Awaitable[None]]) -> None:
        """Waits to become the leader, then runs `lead`; hands the lease over when that ends.

        Raises:
            LeadershipLost: the lease was not renewed in time, or taken; `lead` was cancelled.
        """
        while not await self._acquire():
            await self._clock.sleep(self._pause * _random.uniform(1.0, 1.2))
        log.info("leading", lease=str(self._key), identity=self._identity)
        with LEADER.labels(self._key.name).track_inprogress():
            try:
                loss = await self._lead(lead)
            finally:
                await self._release()
        if loss:
            raise LeadershipLost(loss)

    async def _lead(self, lead: Callable[[], Awaitable[None]]) -> str:
        """Leads while the lease is renewed; returns how it was lost, "" if it was not."""

        async def work() -> None:
            await lead()

        async with asyncio.TaskGroup() as group:
            working = group.create_task(work(), name="leading")
            renewing = group.create_task(self._keep(), name="lease renewal")
            await asyncio.wait({working, renewing}, return_when=asyncio.FIRST_COMPLETED)
            working.cancel()
            renewing.cancel()
        return "" if renewing.cancelled() else renewing.result()

    async def _keep(self) -> str:
        """Renews the lease until it cannot be; returns why."""
        problem = ""
        while self._left() > 0:
            # More often as the term runs out: the last chance must not be slept away.
            await self._clock.sleep(min(self._retry, max(0.25, self._left() / 2)))
            if self._left() <= 0:
                break
            try:
                taken = await self._renew_once()
            except ControlError as error:
                problem = f": {error}"
                log.warning("lease not renewed", reason=error.reason, detail=error.message)
                continue
            if taken:
                self._renewed_at = None
                return taken
        return f"the lease {self._key} was not renewed for {self._renew:g} s{problem}"

    async def _renew_once(self) -> str:
        """Renews our lease; returns who took it, "" if nobody did."""
        try:
            await self._claim({}, timeout=self._patience())
        except Stale:
            lease = await self._client.get(Lease, self._key, timeout=self._patience())
            if lease is None or lease.spec.holder_identity != self._identity:
                holder = (lease.spec.holder_identity if lease else None) or "nobody"
                return f"the lease {self._key} is held by {holder}"
            self._version = lease.metadata.resource_version
            await self._claim({}, timeout=self._patience())
        return ""

    def _left(self) -> float:
        """Seconds that we may go on leading without a renewal."""
        since = self._renewed_at if self._renewed_at is not None else float("-inf")
        return since + self._renew - self._clock.monotonic()

    def _patience(self) -> float:
        """Seconds for one request: two must fit into what is left of the term."""
        return max(0.1, min(self._left(), self._renew) / 2)

    async def _acquire(self) -> bool:
        """One try for the lease."""
        patience = self._renew / 2
        try:
            lease = await self._client.get(Lease, self._key, timeout=patience)
            if lease is None:
                return await self._create(patience)
            if self._runs(lease):
                self._pause = self._retry
                return False
            self._version = lease.metadata.resource_version
            before = lease.spec.lease_transitions or 0
            first = {"acquireTime": self._stamp(), "leaseTransitions": before + 1}
            await self._claim(first, timeout=patience)
        except Stale:
            self._pause = self._retry
            return False  # another candidate was faster
        except ControlError as error:
            # What somebody has to mend first is not there sooner for being asked for more often.
            blocked = isinstance(error, Blocked)
            self._pause = min(2 * self._pause, self._lease) if blocked else self._retry
            log.warning("cannot try for the lease", reason=error.reason, detail=error.message)
            return False
        return True

    def _runs(self, lease: Lease) -> bool:
        """Whether somebody holds the lease, and has renewed it lately as far as we saw."""
        if not lease.spec.holder_identity:
            return False
        now = self._clock.monotonic()
        if lease.metadata.resource_version != self._seen.version:
            self._seen = _Sighting(lease.metadata.resource_version, now)
        term = lease.spec.lease_duration_seconds or self._lease
        return now - self._seen.at < term

    async def _create(self, timeout: float) -> bool:
        began = self._clock.monotonic()
        spec = self._term() | {"acquireTime": self._stamp(), "leaseTransitions": 0}
        metadata = {"name": self._key.name, "namespace": self._key.namespace}
        body = {"metadata": metadata, "spec": spec}
        try:
            written = await self._client.create(Lease.RESOURCE, body, timeout=timeout)
        except NotFound as error:  # no candidate was faster: none can ever succeed
            raise Blocked(
                "NoNamespace",
                f"the Lease {self._key} cannot be created, as there is no namespace "
                f"{self._key.namespace!r}: create it, or name the controller's own "
                f"({error.message})",
            ) from error
        self._version, self._renewed_at = written.resource_version, began
        return True

    async def _claim(self, more: dict[str, Any], *, timeout: float) -> None:
        """Writes a new term for us over the version of the lease that we know."""
        began = self._clock.monotonic()
        patch = {
            "metadata": {"resourceVersion": self._version},
            "spec": self._term() | more,
        }
        written = await self._client.merge_patch(Lease.RESOURCE, self._key, patch, timeout=timeout)
        self._version, self._renewed_at = written.resource_version, began

    async def _release(self) -> None:
        """Lets the next leader begin at once; without this it would wait our term out."""
        if self.leading:
            term = {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": self._stamp()}
            patch = {"metadata": {"resourceVersion": self._version}, "spec": term}
            try:
                await self._client.merge_patch(Lease.RESOURCE, self._key, patch, timeout=3.0)
            except ControlError as error:
                log.warning("lease not handed over", reason=error.reason, detail=error.message)
            else:
                log.info("lease handed over", lease=str(self._key))
        self._renewed_at = None

    def _term(self) -> dict[str, Any]:
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": round(self._lease),
            "renewTime": self._stamp(),
        }

    def _stamp(self) -> str:
        return self._clock.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
