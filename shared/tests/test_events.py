"""Which Events are written, and how often."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import pytest
from structlog.testing import capture_logs

from controlkit.errors import ControlError, Rejected, Transient
from controlkit.events import EVENTS, WAITING_MOST, EventRecorder
from controlkit.kube.objects import Key, KubeObject, ObjectMeta, Resource
from controlkit_testing import LoopClock, MemoryApi

pytestmark = pytest.mark.looptime


class Widget(KubeObject):
    RESOURCE: ClassVar[Resource] = Resource("example.com", "v1", "widgets", "Widget")


class Zone(KubeObject):
    RESOURCE: ClassVar[Resource] = Resource("example.com", "v1", "zones", "Zone", namespaced=False)


def widget(name: str = "w") -> Widget:
    meta = ObjectMeta(name=name, namespace="ns", uid=f"uid-{name}", resource_version="7")
    return Widget(metadata=meta)


class Bench:
    def __init__(self) -> None:
        self.api = MemoryApi()
        self.recorder = EventRecorder(self.api.client(), component="kit", clock=LoopClock())

    def written(self) -> list[dict[str, Any]]:
        return self.api.all(EVENTS)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.recorder.run())
            yield
            task.cancel()


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_an_event_names_its_object_and_its_reporter(bench: Bench) -> None:
    async with bench.running():
        bench.recorder.event(widget(), "Warning", "QuotaExceeded", "ask for more")
        await asyncio.sleep(0.01)
        [event] = bench.written()
    assert event["metadata"]["namespace"] == "ns"
    assert event["metadata"]["name"].startswith("w.")
    assert event["involvedObject"] == {
        "apiVersion": "example.com/v1",
        "kind": "Widget",
        "namespace": "ns",
        "name": "w",
        "uid": "uid-w",
        "resourceVersion": "7",
    }
    assert (event["type"], event["reason"]) == ("Warning", "QuotaExceeded")
    assert (event["message"], event["count"]) == ("ask for more", 1)
    assert event["source"] == {"component": "kit"}
    assert event["firstTimestamp"] == event["lastTimestamp"] == "2030-01-01T00:00:00Z"


async def test_an_event_of_a_cluster_scoped_object_lies_in_default(bench: Bench) -> None:
    async with bench.running():
        zone = Zone(metadata=ObjectMeta(name="z", uid="u"))
        bench.recorder.event(zone, "Normal", "Made", "it is there")
        await asyncio.sleep(0.01)
        [event] = bench.written()
    assert event["metadata"]["namespace"] == "default"
    assert "namespace" not in event["involvedObject"]


async def test_a_repetition_within_two_minutes_is_counted_then_written_once(
    bench: Bench,
) -> None:
    async with bench.running():
        for _ in range(10):
            bench.recorder.event(widget(), "Warning", "Failing", "still")
            await asyncio.sleep(5)
        assert [event["count"] for event in bench.written()] == [1]
        await asyncio.sleep(120)
        [event] = bench.written()
    assert event["count"] == 10
    assert event["firstTimestamp"] == "2030-01-01T00:00:00Z"
    assert event["lastTimestamp"] == "2030-01-01T00:00:45Z"


async def test_a_repetition_after_two_minutes_is_written_at_once(bench: Bench) -> None:
    async with bench.running():
        bench.recorder.event(widget(), "Warning", "Failing", "still")
        await asyncio.sleep(130)
        bench.recorder.event(widget(), "Warning", "Failing", "still")
        await asyncio.sleep(0.01)
        assert [event["count"] for event in bench.written()] == [2]


async def test_an_event_that_the_cluster_forgot_is_written_anew(bench: Bench) -> None:
    async with bench.running():
        bench.recorder.event(widget(), "Warning", "Failing", "still")
        await asyncio.sleep(3700)
        [old] = bench.written()
        bench.api.remove(EVENTS, Key("ns", old["metadata"]["name"]))
        bench.recorder.event(widget(), "Warning", "Failing", "still")
        await asyncio.sleep(0.01)
        [new] = bench.written()
    assert new["count"] == 2
    assert new["metadata"]["name"] != old["metadata"]["name"]


async def test_one_object_cannot_flood_the_cluster(bench: Bench) -> None:
    async with bench.running():
        for number in range(200):
            bench.recorder.event(widget(), "Normal", "Chatty", f"message {number}")
        bench.recorder.event(widget("other"), "Normal", "Calm", "heard all the same")
        await asyncio.sleep(10)
        assert len(bench.written()) == 26
        await asyncio.sleep(60)
        bench.recorder.event(widget(), "Normal", "Chatty", "one a minute")
        bench.recorder.event(widget(), "Normal", "Chatty", "not two")
        await asyncio.sleep(10)
        assert len(bench.written()) == 27


async def test_many_objects_at_once_are_written_at_a_rate(bench: Bench) -> None:
    async with bench.running():
        for number in range(300):
            bench.recorder.event(widget(f"w{number}"), "Normal", "Made", "there")
        await asyncio.sleep(1)
        assert 100 <= len(bench.written()) <= 121
        await asyncio.sleep(10)
        assert len(bench.written()) == 300


async def test_what_exceeds_the_queue_is_dropped_not_kept(bench: Bench) -> None:
    for number in range(WAITING_MOST + 500):
        bench.recorder.event(widget(f"w{number}"), "Normal", "Made", "there")
    assert len(bench.recorder._waiting) == WAITING_MOST


async def test_memory_is_bounded_whatever_is_recorded(bench: Bench) -> None:
    for number in range(10_000):
        bench.recorder.event(widget(f"w{number}"), "Normal", "Made", "there")
    assert len(bench.recorder._records) <= 4096
    assert len(bench.recorder._limits) <= 4096


async def test_an_outage_delays_an_event(bench: Bench) -> None:
    faults: list[ControlError] = [Transient("Unreachable", "away")] * 3
    bench.api.fault = lambda _verb, _path: faults.pop() if faults else None
    async with bench.running():
        bench.recorder.event(widget(), "Normal", "Made", "there")
        await asyncio.sleep(60)
        assert len(bench.written()) == 1


async def test_an_event_whose_creation_was_not_confirmed_goes_on_counting(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = bench.api._create
    lost = [Transient("Timeout", "the answer was lost")]

    def answer_is_lost(*call: Any) -> Any:
        answer = create(*call)
        if lost:
            raise lost.pop()
        return answer

    monkeypatch.setattr(bench.api, "_create", answer_is_lost)
    with capture_logs() as logs:
        async with bench.running():
            bench.recorder.event(widget(), "Warning", "Failing", "still")
            await asyncio.sleep(1)
            bench.recorder.event(widget(), "Warning", "Failing", "still")
            await asyncio.sleep(130)
            assert [event["count"] for event in bench.written()] == [2]
            bench.recorder.event(widget(), "Warning", "Failing", "still")
            await asyncio.sleep(130)
            assert [event["count"] for event in bench.written()] == [3]
    assert logs == []


async def test_an_event_that_is_refused_is_dropped_and_logged(bench: Bench) -> None:
    bench.api.fault = lambda _verb, _path: Rejected("Forbidden", "no")
    with capture_logs() as logs:
        async with bench.running():
            bench.recorder.event(widget(), "Normal", "Made", "there")
            await asyncio.sleep(600)
    assert [each["event"] for each in logs] == ["event not written"]


async def test_a_long_message_is_shortened(bench: Bench) -> None:
    async with bench.running():
        bench.recorder.event(widget(), "Normal", "Long", "x" * 5000)
        await asyncio.sleep(0.01)
        [event] = bench.written()
    assert len(event["message"]) == 1024
    assert event["message"].endswith("…")
