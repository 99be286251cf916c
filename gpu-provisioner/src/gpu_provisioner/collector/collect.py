"""Clears away what fell out of the normal course, after looking twice and asking live.

Invariant: nothing is deleted on the word of a cache; nothing at all while Azure cannot be seen, or
while the API server does not serve the kind of claim that would vouch for a pool.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, assert_never

import structlog
from prometheus_client import Counter

from controlkit.cache import Cache
from controlkit.clock import Clock
from controlkit.errors import ControlError
from controlkit.kube.client import KubeClient
from controlkit.kube.objects import Key
from gpu_provisioner.azure.errors import AzureError
from gpu_provisioner.azure.gateway import Gateway
from gpu_provisioner.azure.pools import Pool
from gpu_provisioner.binding import kind_served, made_for, owners_of, pool_of
from gpu_provisioner.claims.dialect import Dialect
from gpu_provisioner.collector.suspects import (
    LeakedPool,
    LostNode,
    OrphanNode,
    Suspect,
    Tenant,
    VanishedPool,
    suspects,
)
from gpu_provisioner.nodes.registration import release_patch
from gpu_provisioner.pools.roster import Roster
from gpuapis.core import Node
from gpuapis.labels import AGENT_POOL, ASSIGNED_POOL

PERIOD: Final = 60.0
"""Seconds between two sweeps."""

COLLECTED: Final = Counter(
    "gpu_provisioner_collected_total", "Things cleared away outside the normal course.", ("what",)
)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Served:
    """One kind of claim and its cache."""

    dialect: Dialect[Any]
    cache: Cache[Any]


class Collector:
    """Sweeps now and then."""

    def __init__(
        self,
        *,
        client: KubeClient,
        gateway: Gateway,
        kinds: Sequence[Served],
        roster: Roster,
        nodes: Cache[Node],
        clock: Clock,
        locks: Mapping[str, asyncio.Lock],
        empty_pool_delay: float = 0.0,
        period: float = PERIOD,
    ) -> None:
        self._client = client
        self._gateway = gateway
        self._kinds = {kind.dialect.resource.kind: kind for kind in kinds}
        self._roster = roster
        self._nodes = nodes
        self._clock = clock
        self._locks = locks
        self._empty_pool_delay = empty_pool_delay
        self._period = period
        self._since: dict[Suspect, float] = {}

    async def run(self) -> None:
        """Sweeps until cancelled."""
        while True:
            await self._clock.sleep(self._period)
            await self.sweep()

    async def sweep(self) -> None:
        """Looks once, and acts on what was suspicious the last time, too."""
        directory = self._gateway.directory
        if not directory.sound:
            self._since.clear()
            return
        now = suspects(
            pools=directory.all(),
            claims=self._roster.all(),
            tenants=self._tenants(),
            nodes=self._nodes.all(),
            now=self._clock.now(),
        )
        moment = self._clock.monotonic()
        twice = [each for each in now if each in self._since and self._ripe(each, moment)]
        self._since = {each: self._since.get(each, moment) for each in now}
        for suspect in twice:
            try:
                await self._act(suspect)
            except ControlError as error:
                # Nothing is lost: it will be found again.
                log.warning("not collected", suspect=str(suspect), reason=error.reason)

    def _ripe(self, suspect: Suspect, moment: float) -> bool:
        """An empty pool is kept for a while, for claims of its shape."""
        if not isinstance(suspect, LeakedPool) or not suspect.empty:
            return True
        return moment - self._since[suspect] >= self._empty_pool_delay

    def _tenants(self) -> Iterable[Tenant]:
        for kind in self._kinds.values():
            for item in kind.cache.all():
                meta = item.metadata
                yield Tenant(meta.uid, meta.labels.get(ASSIGNED_POOL) or meta.name)

    async def _act(self, suspect: Suspect) -> None:
        match suspect:
            case LeakedPool(pool):
                await self._delete_pool(pool)
            case VanishedPool(pool, claim, uid):
                await self._delete_claim_without_pool(pool, claim, uid)
            case LostNode(pool, claim, uid):
                await self._delete_claim_without_node(pool, claim, uid)
            case OrphanNode(name):
                await self._release_node(name)
            case _:
                assert_never(suspect)

    async def _delete_pool(self, name: str) -> None:
        pool = self._gateway.directory.get(name)
        if pool is None:
            return
        kind = self._kinds.get(kind_served(pool))
        if kind is None or not await self._client.serves(kind.dialect.resource):
            log.warning("a pool has no claim, but its kind is not served", pool=name)
            return
        async with self._locks[name]:  # no claim gets a place in it meanwhile
            if await self._wanted(kind, pool):
                return
            await self._gateway.delete(pool)
        self._collected("pool", pool=name)

    async def _wanted(self, kind: Served, pool: Pool) -> bool:
        """Whether any claim has its place in the pool, as the API server says now."""
        view, selector = kind.dialect.view, f"{ASSIGNED_POOL}={pool.name}"
        namesake = await self._client.get(view, Key("", pool.name))
        assigned = (await self._client.list(view, label_selector=selector)).items
        return any(
            meta.labels.get(ASSIGNED_POOL, meta.name) == pool.name and made_for(pool, meta.uid)
            for meta in (claim.metadata for claim in (*assigned, namesake) if claim is not None)
        )

    async def _delete_claim_without_pool(self, pool: str, name: str, uid: str) -> None:
        if any(node.ready for node in _nodes_of(self._nodes.all(), pool, uid)):
            return  # Azure or we are mistaken: a node that works is not given up
        try:
            await self._gateway.confirm_gone(pool)
        except AzureError:
            return
        await self._delete_claim(name, uid, "claim without pool")

    async def _delete_claim_without_node(self, pool: str, name: str, uid: str) -> None:
        live = await self._client.list(Node, label_selector=f"{AGENT_POOL}={pool}")
        if not any(_nodes_of(live.items, pool, uid)):
            await self._delete_claim(name, uid, "claim without node")

    async def _delete_claim(self, name: str, uid: str, what: str) -> None:
        for kind in self._kinds.values():
            item = kind.cache.get(Key("", name))
            if item is not None and item.metadata.uid == uid:
                await self._client.delete(kind.dialect.resource, item.key, uid=uid)
                self._collected(what, claim=name)

    async def _release_node(self, name: str) -> None:
        node = await self._client.get(Node, Key("", name))
        if node is None or await self._claim_exists(node):
            return
        guard = {"resourceVersion": node.metadata.resource_version}
        patch = {"metadata": {**release_patch(node)["metadata"], **guard}}
        await self._client.merge_patch(Node.RESOURCE, node.key, patch)
        await self._client.delete(Node.RESOURCE, node.key, uid=node.metadata.uid)
        self._collected("node", node=name)

    async def _claim_exists(self, node: Node) -> bool:
        """Whether the claim of a node exists, or one that is named like its pool."""
        owners = [(each.name, each.uid) for each in node.metadata.owner_references]
        for kind in self._kinds.values():
            if await self._client.get(kind.dialect.view, Key("", pool_of(node))) is not None:
                return True
            for name, uid in owners:
                owner = await self._client.get(kind.dialect.view, Key("", name))
                if owner is not None and owner.metadata.uid == uid:
                    return True
        return False

    def _collected(self, what: str, **about: str) -> None:
        COLLECTED.labels(what).inc()
        log.warning("collected", what=what, **about)


def _nodes_of(nodes: Iterable[Node], pool: str, uid: str) -> Iterable[Node]:
    """Of some nodes, those of a pool that are the claim's, or may become so."""
    return (
        node
        for node in nodes
        if pool_of(node) == pool and (not owners_of(node) or uid in owners_of(node))
    )
