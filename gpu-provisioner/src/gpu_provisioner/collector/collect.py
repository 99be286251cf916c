"""Clears away what fell out of the normal course, after looking twice and asking live.

Invariant: nothing is deleted on the word of a cache; nothing at all while Azure cannot be seen, or
while the API server does not serve the kind of claim that would vouch for a pool.
"""

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
from gpu_provisioner.binding import claim_name, kind_served, made_for, pool_of
from gpu_provisioner.claims.claim import Claim
from gpu_provisioner.claims.dialect import Dialect
from gpu_provisioner.collector.suspects import (
    LeakedPool,
    LostNode,
    OrphanNode,
    Suspect,
    VanishedPool,
    suspects,
)
from gpu_provisioner.nodes.registration import release_patch
from gpuapis.core import Node
from gpuapis.labels import AGENT_POOL

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
        nodes: Cache[Node],
        clock: Clock,
        period: float = PERIOD,
    ) -> None:
        self._client = client
        self._gateway = gateway
        self._kinds = {kind.dialect.resource.kind: kind for kind in kinds}
        self._nodes = nodes
        self._clock = clock
        self._period = period
        self._before: frozenset[Suspect] = frozenset()

    async def run(self) -> None:
        """Sweeps until cancelled."""
        while True:
            await self._clock.sleep(self._period)
            await self.sweep()

    async def sweep(self) -> None:
        """Looks once, and acts on what was suspicious the last time, too."""
        directory = self._gateway.directory
        if not directory.sound:
            self._before = frozenset()
            return
        now = suspects(
            pools=directory.all(),
            claims=self._claims(),
            uids=self._uids(),
            nodes=self._nodes.all(),
            now=self._clock.now(),
        )
        twice, self._before = now & self._before, now
        for suspect in twice:
            try:
                await self._act(suspect)
            except ControlError as error:
                # Nothing is lost: it will be found again.
                log.warning("not collected", suspect=str(suspect), reason=error.reason)

    def _claims(self) -> Iterable[Claim]:
        for kind in self._kinds.values():
            for item in kind.cache.all():
                claim = kind.dialect.read(item)
                if claim is not None:
                    yield claim

    def _uids(self) -> Mapping[str, frozenset[str]]:
        found: dict[str, set[str]] = {}
        for kind in self._kinds.values():
            for item in kind.cache.all():
                found.setdefault(item.metadata.name, set()).add(item.metadata.uid)
        return {name: frozenset(uids) for name, uids in found.items()}

    async def _act(self, suspect: Suspect) -> None:
        match suspect:
            case LeakedPool(pool):
                await self._delete_pool(pool)
            case VanishedPool(claim, uid):
                await self._delete_claim_without_pool(claim, uid)
            case LostNode(claim, uid):
                await self._delete_claim_without_node(claim, uid)
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
        claim = await self._client.get(kind.dialect.view, Key("", claim_name(name)))
        if claim is not None and made_for(pool, claim.metadata.uid):
            return
        await self._gateway.delete(pool)
        self._collected("pool", pool=name)

    async def _delete_claim_without_pool(self, name: str, uid: str) -> None:
        if any(node.ready for node in self._nodes_of(name)):
            return  # Azure or we are mistaken: a node that works is not given up
        try:
            await self._gateway.confirm_gone(name)
        except AzureError:
            return
        await self._delete_claim(name, uid, "claim without pool")

    async def _delete_claim_without_node(self, name: str, uid: str) -> None:
        live = await self._client.list(Node, label_selector=f"{AGENT_POOL}={name}")
        if not live.items:
            await self._delete_claim(name, uid, "claim without node")

    async def _delete_claim(self, name: str, uid: str, what: str) -> None:
        for kind in self._kinds.values():
            item = kind.cache.get(Key("", name))
            if item is not None and item.metadata.uid == uid:
                await self._client.delete(kind.dialect.resource, item.key, uid=uid)
                self._collected(what, claim=name)

    async def _release_node(self, name: str) -> None:
        node = await self._client.get(Node, Key("", name))
        if node is None or await self._claim_exists(claim_name(pool_of(node))):
            return
        guard = {"resourceVersion": node.metadata.resource_version}
        patch = {"metadata": {**release_patch(node)["metadata"], **guard}}
        await self._client.merge_patch(Node.RESOURCE, node.key, patch)
        await self._client.delete(Node.RESOURCE, node.key, uid=node.metadata.uid)
        self._collected("node", node=name)

    async def _claim_exists(self, name: str) -> bool:
        for kind in self._kinds.values():
            if await self._client.get(kind.dialect.view, Key("", name)) is not None:
                return True
        return False

    def _nodes_of(self, pool: str) -> Iterable[Node]:
        return (node for node in self._nodes.all() if pool_of(node) == pool)

    def _collected(self, what: str, **about: str) -> None:
        COLLECTED.labels(what).inc()
        log.warning("collected", what=what, **about)
