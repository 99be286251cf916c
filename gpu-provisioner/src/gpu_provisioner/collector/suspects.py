"""What looks as if it had fallen out of the normal course: a pure function of what is in memory.

Invariant: to be named here changes nothing; a suspect is acted on only when it is named twice in a
row and a question to the API server and to Azure confirms it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from gpu_provisioner.azure.pools import Pool
from gpu_provisioner.binding import made_at, made_for, owned, owners_of, place_of, pool_of
from gpu_provisioner.claims.claim import Claim
from gpu_provisioner.nodes.registration import held
from gpuapis.core import Node

GRACE: Final = timedelta(seconds=30)
"""A pool that is younger is left alone, whatever the caches say."""


@dataclass(frozen=True, slots=True)
class LeakedPool:
    """A pool of ours in which no claim has a place.

    Attributes:
        pool: its name.
        made: when it was asked for.
        empty: it has no VM, and so costs nothing.
    """

    pool: str
    made: datetime | None
    empty: bool = False


@dataclass(frozen=True, slots=True)
class VanishedPool:
    """A claim that had a node, and whose pool is not there any more."""

    pool: str
    claim: str
    uid: str


@dataclass(frozen=True, slots=True)
class LostNode:
    """A claim whose node was registered and is not there any more, while its pool is healthy."""

    pool: str
    claim: str
    uid: str


@dataclass(frozen=True, slots=True)
class OrphanNode:
    """A node that our finalizer holds, without a claim, whose VM is going or gone."""

    node: str
    uid: str


Suspect = LeakedPool | VanishedPool | LostNode | OrphanNode


@dataclass(frozen=True, slots=True)
class Tenant:
    """What of a claim, ours to serve or not, speaks for a pool or a node.

    Attributes:
        uid: of the claim.
        pool: the pool that it has, or may have, a place in.
    """

    uid: str
    pool: str


def suspects(
    *,
    pools: Iterable[Pool],
    claims: Iterable[Claim],
    tenants: Iterable[Tenant],
    nodes: Iterable[Node],
    now: datetime,
) -> frozenset[Suspect]:
    """Names what looks lost.

    Args:
        pools: every pool of the cluster.
        claims: the claims that are ours to serve.
        tenants: what all claims stand for, ours to serve or not.
        nodes: every node of the cluster.
        now: the wall time.
    """
    by_name = {pool.name: pool for pool in pools}
    every, uids = {node.metadata.name: node for node in nodes}, set[str]()
    in_pool: dict[str, set[str]] = {}
    for tenant in tenants:
        uids.add(tenant.uid)
        in_pool.setdefault(tenant.pool, set()).add(tenant.uid)
    found: set[Suspect] = {
        LeakedPool(pool.name, made_at(pool), pool.count == 0)
        for pool in by_name.values()
        if owned(pool)
        and pool.state != "Deleting"
        and not any(made_for(pool, uid) for uid in in_pool.get(pool.name, ()))
        and now - (made_at(pool) or now - GRACE) >= GRACE
    }
    # A node without an owner may be about to get one; it is known here by its pool.
    spoken_for = {uid for node in every.values() for uid in owners_of(node) or (pool_of(node),)}
    for claim in claims:
        if claim.deleting or not claim.is_true("Launched"):
            continue
        pool = by_name.get(place_of(claim))
        if pool is None:
            found.add(VanishedPool(place_of(claim), claim.name, claim.uid))
        elif {claim.uid, pool.name} & spoken_for or claim.node_name in every:
            continue
        elif _idle(pool) and claim.is_true("Registered"):
            found.add(LostNode(pool.name, claim.name, claim.uid))
    found |= {
        OrphanNode(node.metadata.name, node.metadata.uid)
        for node in every.values()
        if held(node) and _without(node, by_name, in_pool, uids)
    }
    return frozenset(found)


def _without(
    node: Node, pools: Mapping[str, Pool], in_pool: Mapping[str, set[str]], uids: set[str]
) -> bool:
    """Whether neither a claim nor a VM stands for the node."""
    name = pool_of(node)
    pool = pools.get(name)
    if pool is None or pool.state == "Deleting":
        return not in_pool.get(name)
    # Other claims may have their places in the pool; this node's own claim is gone.
    return node.deleting and not any(uid in uids for uid in owners_of(node))


def _idle(pool: Pool) -> bool:
    """No operation is replacing the VMs, and nobody has stopped them."""
    return pool.state == "Succeeded" and pool.running
