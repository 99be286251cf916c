"""A client that keeps to a rate: what waits, for how long, and what never does; in virtual time."""

import asyncio
from typing import Any

import pytest

from controlkit.errors import Transient
from controlkit.kube.pacing import PacedWire
from controlkit_testing import LoopClock

pytestmark = pytest.mark.looptime


class Wire:
    """Answers at once and notes when it was asked, and how long it had left."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, float]] = []

    async def request(self, verb: str, path: str, *, timeout: float = 30.0, **rest: Any) -> bytes:
        self.asked.append((asyncio.get_running_loop().time(), timeout))
        return b"{}"

    def stream(self, path: str, **rest: Any) -> Any:
        return f"the stream of {path}"

    async def close(self) -> None:
        self.asked.clear()


async def test_a_burst_goes_at_once_and_the_rest_at_the_rate() -> None:
    wire = Wire()
    paced = PacedWire(wire, qps=2, burst=3, clock=LoopClock())
    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(paced.request("GET", "/x", timeout=10))
    moments = [round(moment, 3) for moment, _ in wire.asked]
    assert moments == [0, 0, 0, 0.5, 1.0]
    assert [left for _, left in wire.asked] == [10, 10, 10, 9.5, 9.0], "the wait is in the deadline"


async def test_a_call_that_would_wait_beyond_its_deadline_fails_at_once() -> None:
    wire = Wire()
    paced = PacedWire(wire, qps=0.1, burst=1, clock=LoopClock())
    await paced.request("GET", "/x")
    with pytest.raises(Transient, match="raise --kube-client-qps"):
        await paced.request("GET", "/x", timeout=5)
    assert asyncio.get_running_loop().time() == 0
    assert len(wire.asked) == 1


async def test_watches_wait_for_nothing() -> None:
    paced = PacedWire(Wire(), qps=0.001, burst=1, clock=LoopClock())
    await paced.request("GET", "/x")
    found: Any = paced.stream("/pods", query={}, timeout=1)
    assert found == "the stream of /pods"
