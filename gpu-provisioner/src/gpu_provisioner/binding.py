"""Which claim, pool and node belong together: the one place that knows how they are bound.

Invariant: a pool is only ever taken for ours when Azure's tags say so, or, for a pool that an older
release made, when its labels do. A claim's place in a pool is written on the claim; what an older
release made for a claim has the claim's name.
"""

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from gpu_provisioner.azure.pools import Pool, PoolSpec, Shape
from gpu_provisioner.claims.claim import Claim
from gpuapis.core import Node
from gpuapis.labels import (
    AGENT_POOL,
    CREATION_LAYOUT,
    CREATION_TIMESTAMP,
    NODEPOOL,
    OWNER_MARKS,
    PROVISIONER_NAME,
)

POOL_TAG: Final = "gpu-provisioner-pool"
SHAPE_TAG: Final = "gpu-provisioner-shape"
CLAIM_TAG: Final = "gpu-provisioner-claim"
UID_TAG: Final = "gpu-provisioner-claim-uid"
KIND_TAG: Final = "gpu-provisioner-claim-kind"
CREATED_TAG: Final = "gpu-provisioner-created"

_CLAIM_KINDS: Final = frozenset({"Machine", "NodeClaim"})


def place_of(claim: Claim) -> str:
    """The pool that a claim has a place in; "" while it has none."""
    if claim.assigned:
        return claim.assigned
    # An older release marked the start and no pool; what it made has the claim's name.
    asked = claim.started is not None or claim.is_true("Launched") or claim.deleting is not None
    return claim.name if asked else ""


def pool_of(node: Node) -> str:
    """The pool that a node's VM belongs to; "" when AKS did not make it."""
    return node.metadata.labels.get(AGENT_POOL, "")


def owners_of(node: Node) -> tuple[str, ...]:
    """Uids of the claims that a node says it belongs to."""
    return tuple(
        owner.uid for owner in node.metadata.owner_references if owner.kind in _CLAIM_KINDS
    )


def marks(claim: Claim) -> dict[str, str]:
    """The tags of a pool that is one claim's alone."""
    return {CLAIM_TAG: claim.name, UID_TAG: claim.uid}


def pool_spec(name: str, shape: Shape, count: int, now: datetime) -> PoolSpec:
    """The pool to make for so many claims of a shape, with tags that say whose it is."""
    tags = {
        POOL_TAG: name,
        SHAPE_TAG: shape.key,
        KIND_TAG: shape.kind,
        CREATED_TAG: now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        **shape.marks,
    }
    return PoolSpec(name, shape, count, tags)


def owned(pool: Pool) -> bool:
    """Whether this provisioner, of any release, made the pool."""
    tagged = pool.tags.get(POOL_TAG) == pool.name or (
        UID_TAG in pool.tags and pool.tags.get(CLAIM_TAG) == pool.name
    )
    return not pool.system and (tagged or _marked(pool.labels))


def belongs(pool: Pool, claim: Claim) -> bool:
    """Whether the claim may have its place in that pool."""
    return owned(pool) and place_of(claim) == pool.name and made_for(pool, claim.uid)


def belongs_by_name(pool: Pool, claim: Claim) -> bool:
    """Whether the pool was made for that one claim, by whatever release, and has its name."""
    return (
        owned(pool) and not shared(pool) and pool.name == claim.name and made_for(pool, claim.uid)
    )


def shared(pool: Pool) -> bool:
    """Whether the pool is open to any claim of its shape."""
    return pool.tags.get(POOL_TAG) == pool.name and UID_TAG not in pool.tags


def open_to(pool: Pool, shape: Shape) -> bool:
    """Whether further claims of a shape may get their place in that pool."""
    return shared(pool) and not pool.system and pool.tags.get(SHAPE_TAG) == shape.key


def kind_served(pool: Pool) -> str:
    """The kind of claim that a pool of ours was made for."""
    by_label = "Machine" if PROVISIONER_NAME in pool.labels else "NodeClaim"
    return pool.tags.get(KIND_TAG, by_label)


def made_for(pool: Pool, uid: str) -> bool:
    """Whether the claim of that uid may be one that a pool was made for."""
    return pool.tags.get(UID_TAG, uid) == uid


def made_at(pool: Pool) -> datetime | None:
    """When the pool was asked for; None when nobody wrote it down.

    A release that set no tags wrote it into a label.
    """
    with suppress(ValueError):
        return datetime.fromisoformat(pool.tags.get(CREATED_TAG, ""))
    with suppress(ValueError):
        label = pool.labels.get(CREATION_TIMESTAMP, "")
        return datetime.strptime(label, CREATION_LAYOUT).replace(tzinfo=UTC)
    return None


def _marked(labels: Mapping[str, str]) -> bool:
    return any(mark in labels for mark in OWNER_MARKS) and (
        NODEPOOL in labels or PROVISIONER_NAME in labels
    )
