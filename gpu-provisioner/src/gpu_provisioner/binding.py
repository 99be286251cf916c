"""Which claim a pool and a node belong to: the one place that knows how they are bound.

Invariant: a pool is only ever taken for a claim's when Azure's tags say so, or, for a pool that an
older release made, when its labels do. Today a claim has a pool of its own, named like the claim.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from gpu_provisioner.azure.pools import Pool
from gpu_provisioner.claims.claim import Claim
from gpuapis.core import Node
from gpuapis.labels import AGENT_POOL, NODEPOOL, OWNER_MARKS, PROVISIONER_NAME

CLAIM_TAG: Final = "gpu-provisioner-claim"
UID_TAG: Final = "gpu-provisioner-claim-uid"
KIND_TAG: Final = "gpu-provisioner-claim-kind"
CREATED_TAG: Final = "gpu-provisioner-created"


def pool_name(claim: Claim) -> str:
    """The pool that serves a claim."""
    return claim.name


def claim_name(pool: str) -> str:
    """The claim that a pool serves."""
    return pool


def pool_of(node: Node) -> str:
    """The pool that a node's VM belongs to; "" when AKS did not make it."""
    return node.metadata.labels.get(AGENT_POOL, "")


def tags(claim: Claim, now: datetime) -> dict[str, str]:
    """The tags that say whose a pool is, for Azure to keep."""
    return {
        CLAIM_TAG: claim.name,
        UID_TAG: claim.uid,
        KIND_TAG: claim.kind,
        CREATED_TAG: now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def owned(pool: Pool) -> bool:
    """Whether this provisioner, of any release, made the pool."""
    tagged = UID_TAG in pool.tags and pool.tags.get(CLAIM_TAG) == claim_name(pool.name)
    return not pool.system and (tagged or _marked(pool.labels))


def belongs(pool: Pool, claim: Claim) -> bool:
    """Whether the pool was made for this very claim."""
    if not owned(pool) or claim_name(pool.name) != claim.name:
        return False
    return made_for(pool, claim.uid)


def kind_served(pool: Pool) -> str:
    """The kind of claim that a pool of ours was made for."""
    by_label = "Machine" if PROVISIONER_NAME in pool.labels else "NodeClaim"
    return pool.tags.get(KIND_TAG, by_label)


def made_for(pool: Pool, uid: str) -> bool:
    """Whether the claim of that uid may be the one that a pool was made for."""
    return pool.tags.get(UID_TAG, uid) == uid


def made_at(pool: Pool) -> datetime | None:
    """When the pool was asked for; None when nobody wrote it down."""
    try:
        return datetime.fromisoformat(pool.tags.get(CREATED_TAG, ""))
    except ValueError:
        return None


def _marked(labels: Mapping[str, str]) -> bool:
    return any(mark in labels for mark in OWNER_MARKS) and (
        NODEPOOL in labels or PROVISIONER_NAME in labels
    )
