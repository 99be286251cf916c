"""What looks as if it had fallen out of the normal course: a pure function of what is in memory.

Invariant: to be named here changes nothing; a suspect is acted on only when it is named twice in a
row and a question to the API server and to Azure confirms it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from gpu_provisioner.azure.pools import Pool
from gpu_provisioner.binding import claim_name, made_at, made_for, owned, pool_of
from gpu_provisioner.claims.claim import Claim
from gpu_provisioner.nodes.registration import held
from gpuapis.core import Node

GRACE: Final = timedelta(seconds=30)
"""A pool that is younger is left alone, whatever the caches say."""


@dataclass(frozen=True, slots=True)
class LeakedPool:
    """A pool of ours that no claim stands for."""

    pool: str
    made: datetime | None


@dataclass(frozen=True, slots=True)
class VanishedPool:
    """A claim that had a node, and whose pool is not there any more."""

    claim: str
    uid: str


@dataclass(frozen=True, slots=True)
class LostNode:
    """A claim whose node was registered, while its healthy pool has no node."""

    claim: str
    uid: str


@dataclass(frozen=True, slots=True)
class OrphanNode:
    """A node that our finalizer holds, without a claim and without a pool."""

    node: str
    uid: str


Suspect = LeakedPool | VanishedPool | LostNode | OrphanNode


def suspects(
    *,
    pools: Iterable[Pool],
    claims: Iterable[Claim],
    uids: Mapping[str, frozenset[str]],
    nodes: Iterable[Node],
    now: datetime,
) -> frozenset[Suspect]:
    """Names what looks lost.

    Args:
        pools: every pool of the cluster.
        claims: the claims that are ours to serve.
        uids: for each name, the uids of all claims of that name, ours to serve or not.
        nodes: every node of the cluster.
        now: the wall time.
    """
    by_name = {pool.name: pool for pool in pools}
    joined = {pool_of(node) for node in nodes}
    found: set[Suspect] = {
        LeakedPool(pool.name, made_at(pool))
        for pool in by_name.values()
        if owned(pool)
        and pool.state != "Deleting"
        and not any(made_for(pool, uid) for uid in uids.get(claim_name(pool.name), ()))
        and now - (made_at(pool) or now - GRACE) >= GRACE
    }
    for claim in claims:
        if claim.deleting or not claim.is_true("Launched"):
            continue
        pool = by_name.get(claim.name)
        if pool is None:
            found.add(VanishedPool(claim.name, claim.uid))
        elif _idle(pool) and claim.is_true("Registered") and claim.name not in joined:
            found.add(LostNode(claim.name, claim.uid))
    for node in nodes:
        pool = by_name.get(pool_of(node))
        without = pool is None or pool.state == "Deleting"
        if held(node) and without and not uids.get(claim_name(pool_of(node))):
            found.add(OrphanNode(node.metadata.name, node.metadata.uid))
    return frozenset(found)


def _idle(pool: Pool) -> bool:
    """No operation is replacing the VMs, and nobody has stopped them."""
    return pool.state == "Succeeded" and pool.running
