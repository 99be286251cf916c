"""Which pools take the claims that wait together, and for how long others are waited for."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_provisioner.pools import window
from gpu_provisioner.pools.allot import Allotment, Limits, Offer, Share, allot

PLENTY = Limits(pools=50, nodes=5_000)
FULL = Limits(pools=0, nodes=5_000)


def shares(*given: tuple[str, int, bool], crowded: bool = False) -> Allotment:
    return Allotment(tuple(Share(*each) for each in given), crowded)


@pytest.mark.parametrize(
    ("count", "offers", "limits", "comes_to"),
    [
        (3, [], PLENTY, shares(("", 3, True))),
        (3, [Offer("a", free=3)], PLENTY, shares(("a", 3, False))),
        (3, [Offer("a", free=2, room=9)], PLENTY, shares(("a", 2, False), ("a", 1, True))),
        (
            3,
            [Offer("b", free=2), Offer("a", free=1)],
            FULL,
            shares(("a", 1, False), ("b", 2, False)),
        ),
        (3, [Offer("a", room=5), Offer("b", room=4)], PLENTY, shares(("b", 3, True))),
        # One request at a time: the rest is looked at again with the next turn.
        (9, [Offer("a", room=5), Offer("b", room=4)], PLENTY, shares(("b", 4, True))),
        (3, [], FULL, shares(crowded=True)),
        (3, [Offer("a", free=1)], FULL, shares(("a", 1, False), crowded=True)),
        (3, [Offer("a", room=5)], Limits(pools=5, nodes=0), shares(crowded=True)),
        (3, [Offer("a", room=5)], Limits(pools=5, nodes=2), shares(("a", 2, True))),
        (3, [], Limits(pools=5, nodes=-4), shares(crowded=True)),
        (1_500, [], PLENTY, shares(("", 1_000, True))),
    ],
)
def test_allot(count: int, offers: Any, limits: Limits, comes_to: Allotment) -> None:
    assert allot(count, 1_000, offers, limits) == comes_to


def test_a_shape_for_one_claim_makes_one_pool_for_one_claim() -> None:
    assert allot(1, 1, [], PLENTY) == shares(("", 1, True))


@given(
    count=st.integers(1, 50),
    offers=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=5),
    pools=st.integers(-2, 3),
    nodes=st.integers(-2, 60),
)
def test_nobody_gets_a_place_twice_or_where_there_is_none(
    count: int, offers: list[tuple[int, int]], pools: int, nodes: int
) -> None:
    offered = {f"p{at}": Offer(f"p{at}", free, room) for at, (free, room) in enumerate(offers)}
    allotted = allot(count, 20, list(offered.values()), Limits(pools, nodes))
    asking = [share for share in allotted.shares if share.asks]
    assert sum(share.count for share in allotted.shares) <= count
    assert len(asking) <= 1
    assert all(share.count > 0 for share in allotted.shares)
    for share in allotted.shares:
        offer = offered.get(share.pool, Offer("", room=20 if pools > 0 else 0))
        assert share.count <= (min(offer.room, nodes) if share.asks else offer.free)
    # Nobody is left out without a reason.
    left = count - sum(share.count for share in allotted.shares)
    assert left == 0 or allotted.crowded or asking


@pytest.mark.parametrize(
    ("arrivals", "now", "most", "left"),
    [
        ([0.0], 0.0, 1, 0.0),  # where one can go, nobody is waited for
        ([0.0], 0.0, 9, 1.0),
        ([0.0], 0.4, 9, 0.6),
        ([0.0], 1.0, 9, 0.0),
        ([0.0, 0.9], 1.0, 9, 0.9),
        ([0.0, 1.0, 2.0, 3.0, 4.5], 4.5, 9, 0.5),  # five seconds at most
        ([0.0, 0.0], 0.0, 2, 0.0),  # as many as can go together
        ([], 0.0, 9, 0.0),
    ],
)
def test_the_window(arrivals: list[float], now: float, most: int, left: float) -> None:
    assert window.left(arrivals, now, most) == pytest.approx(left)
