"""Turns at AKS's limits: a token bucket with a line in front of it."""

from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlkit_testing import FakeClock
from gpu_provisioner.azure.turns import Turns


def turns(clock: FakeClock, burst: int = 2) -> Turns:
    return Turns(burst=burst, per_second=1 / 60, clock=clock)


async def test_a_burst_goes_at_once_and_the_rest_in_the_order_of_coming() -> None:
    clock = FakeClock()
    line = turns(clock)
    for name in "ab":
        assert line.wait(name) == 0
        line.take(name)
    assert [round(line.wait(name)) for name in "cde"] == [60, 120, 180]
    assert line.ahead("e") == 2
    await clock.advance(60)
    # c has come first, whoever asks first now.
    assert round(line.wait("e")) == 120
    assert line.wait("c") == 0
    line.take("c")
    assert [round(line.wait(name)) for name in "de"] == [60, 120]


async def test_aks_counts_from_the_arrival_of_the_first_request() -> None:
    clock = FakeClock()
    line = turns(clock)
    line.take("a")
    line.take("b")
    await clock.advance(3)  # so long were they under way
    line.answered()
    line.answered()
    assert round(line.wait("c")) == 60
    await clock.advance(60)
    assert line.wait("c") == 0
    line.take("c")
    await clock.advance(3)
    line.answered()  # the bucket was not full, and refilled all the time
    assert round(line.wait("d")) == 57


async def test_who_does_not_come_for_their_turn_loses_their_place() -> None:
    clock = FakeClock()
    line = turns(clock, burst=1)
    line.wait("a")
    line.take("a")
    assert round(line.wait("lost")) == 60
    assert round(line.wait("b")) == 120
    await clock.advance(60 + 11)
    assert line.wait("b") == 0


def test_who_leaves_the_line_lets_the_others_up() -> None:
    line = turns(FakeClock(), burst=1)
    line.wait("a")
    line.take("a")
    line.wait("b")
    assert round(line.wait("c")) == 120
    line.leave("b")
    assert round(line.wait("c")) == 60
    line.leave("nobody")


async def test_23_when_azure_asks_to_wait_everybody_waits_and_nobody_loses_a_place() -> None:
    clock = FakeClock()
    line = turns(clock)
    assert line.wait("a") == 0
    line.pause(30)
    assert line.wait("a") == line.wait("b") == 30
    await clock.advance(29)
    assert line.wait("c") == 60 - 29 or line.wait("c") >= 1
    await clock.advance(1)
    assert line.wait("a") == 0


async def test_tokens_grow_back_up_to_the_burst() -> None:
    clock = FakeClock()
    line = turns(clock)
    for name in "ab":
        line.take(name)
    assert line.left == 0
    await clock.advance(90)
    assert line.left == 1.5
    await clock.advance(9_000)
    assert line.left == 2


@pytest.mark.parametrize(
    ("ages", "left"),
    [([], 20), ([0] * 20, 0), ([600] * 20, 10), ([7_200] * 50, 20), ([-5], 19), ([60, 0], 19)],
)
def test_requests_of_an_earlier_process_count(ages: list[float], left: float) -> None:
    line = Turns(burst=20, per_second=1 / 60, clock=FakeClock())
    line.replay(ages)
    assert round(line.left, 6) == left


def test_the_limit_is_told_in_words() -> None:
    assert turns(FakeClock(), 20).rule == "20 requests at once, then 1 a minute"


@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.floats(0, 100)), min_size=1, max_size=60),
    st.integers(1, 5),
)
def test_no_more_turns_come_than_the_limit_has(steps: list[tuple[str, float]], burst: int) -> None:
    """However names come and go, taken turns stay within burst + rate x time."""
    import asyncio  # noqa: PLC0415

    async def play(clock: FakeClock, advance: Callable[[float], Awaitable[None]]) -> None:
        line, taken, passed = turns(clock, burst), 0, 0.0
        for name, pause in steps:
            if line.wait(name) == 0:
                line.take(name)
                taken += 1
            assert taken <= burst + passed / 60 + 1e-6
            await advance(pause)
            passed += pause

    clock = FakeClock()
    asyncio.run(play(clock, clock.advance))
