"""Which pools take the claims of one shape that wait together: a pure function.

Invariant: no claim gets a place where AKS's limits leave none; what costs no request comes first,
then one that grows a pool, then one that makes a pool. With a shape that fits one claim only, as in
dedicated mode, that comes to one new pool for one claim.
"""

from dataclasses import dataclass
from typing import Final

MOST_POOLS: Final = 100
"""Agent pools that AKS allows in a cluster."""

MOST_NODES: Final = 5_000
"""Nodes that AKS allows in a cluster."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A pool that is open to the shape, and idle.

    Attributes:
        pool: its name.
        free: places that cost no request: VMs that nobody wants, or in a pool not yet asked for.
        room: places for which it would have to grow.
    """

    pool: str
    free: int = 0
    room: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """What AKS leaves.

    Attributes:
        pools: pools that may be made.
        nodes: nodes that may be added.
    """

    pools: int
    nodes: int


@dataclass(frozen=True, slots=True)
class Share:
    """So many claims get their places in a pool.

    Attributes:
        pool: its name; "" for one to be made.
        count: how many claims.
        asks: whether a request to AKS has to follow, and so a turn is needed.
    """

    pool: str
    count: int
    asks: bool


@dataclass(frozen=True, slots=True)
class Allotment:
    """What comes of a batch.

    Attributes:
        shares: in this order.
        crowded: whether the rest waits because AKS allows no more, rather than for its turn.
    """

    shares: tuple[Share, ...]
    crowded: bool = False


def allot(count: int, most: int, offers: list[Offer], limits: Limits) -> Allotment:
    """Shares out so many claims; at most one share asks AKS for anything.

    Args:
        count: how many claims wait.
        most: how many of them may be in one pool.
        offers: idle pools of their shape.
        limits: what AKS leaves.
    """
    shares: list[Share] = []
    for offer in sorted(offers, key=lambda each: each.pool):
        if (taken := min(count, offer.free)) > 0:
            shares.append(Share(offer.pool, taken, asks=False))
            count -= taken
    if count == 0:
        return Allotment(tuple(shares))
    nodes = max(0, limits.nodes)
    # The fullest first: emptier ones may become empty, and make room for other shapes.
    for offer in sorted(offers, key=lambda each: (each.room, each.pool)):
        if (taken := min(count, offer.room, nodes)) > 0:
            return Allotment((*shares, Share(offer.pool, taken, asks=True)))
    if limits.pools > 0 and (taken := min(count, most, nodes)) > 0:
        return Allotment((*shares, Share("", taken, asks=True)))
    return Allotment(tuple(shares), crowded=True)
