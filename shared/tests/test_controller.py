"""When passes run, one at a time per key, and what becomes of their errors."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from controlkit.cache import Cache
from controlkit.controller import Controller, Result
from controlkit.errors import Blocked, Rejected, Stale, Transient
from controlkit.kube.objects import Key, KubeObject, ObjectMeta, OwnerReference, Resource
from controlkit_testing import FakeClock

A, B = Key("ns", "a"), Key("ns", "b")


class Job(KubeObject):
    RESOURCE: ClassVar[Resource] = Resource("batch", "v1", "jobs", "Job")


class Pod(KubeObject):
    RESOURCE: ClassVar[Resource] = Resource("", "v1", "pods", "Pod")


def job(name: str, version: int = 1, generation: int = 1) -> Job:
    meta = ObjectMeta(
        name=name, namespace="ns", resource_version=str(version), generation=generation
    )
    return Job(metadata=meta)


def pod(name: str, owner: str, version: int = 1) -> Pod:
    reference = OwnerReference(api_version="batch/v1", kind="Job", name=owner, uid="u")
    meta = ObjectMeta(
        name=name,
        namespace="ns",
        resource_version=str(version),
        owner_references=(reference,),
    )
    return Pod(metadata=meta)


class Bench:
    """A controller of Jobs under a clock that tests own."""

    def __init__(self, name: str, **settings: Any) -> None:
        self.clock = FakeClock()
        self.jobs = Cache(Job)
        self.passes: list[tuple[float, Key]] = []
        self.do: Callable[[Key], Awaitable[Result]] = self.nothing
        self.controller = Controller(name, self.reconcile, clock=self.clock, **settings)
        self.controller.watch(self.jobs, lambda each: [each.key])

    async def nothing(self, key: Key) -> Result:
        return Result()

    async def reconcile(self, key: Key) -> Result:
        self.passes.append((self.clock.monotonic(), key))
        return await self.do(key)

    def moments(self, key: Key) -> list[float]:
        return [moment for moment, each in self.passes if each == key]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.controller.run())
            await self.clock.advance(0)
            yield
            task.cancel()


@pytest.fixture
def bench(request: pytest.FixtureRequest) -> Bench:
    return Bench(request.node.name)


async def test_it_waits_for_its_caches_then_looks_at_everything(bench: Bench) -> None:
    bench.jobs.upsert(job("a"))
    async with bench.running():
        assert bench.passes == []
        bench.jobs.replace([job("a"), job("b")], "1")
        await bench.clock.advance(0)
        assert [key for _, key in bench.passes] == [A, B]


async def test_an_object_that_moves_between_owners_concerns_both(bench: Bench) -> None:
    pods = Cache(Pod)
    bench.controller.watch(
        pods, lambda each: [Key("ns", owner.name) for owner in each.metadata.owner_references]
    )
    bench.jobs.replace([], "1")
    pods.replace([pod("p", "a")], "1")
    async with bench.running():
        bench.passes.clear()
        pods.upsert(pod("p", "b", version=2))
        await bench.clock.advance(0)
        assert {key for _, key in bench.passes} == {A, B}


async def test_a_deletion_is_followed_by_a_pass(bench: Bench) -> None:
    bench.jobs.replace([job("a")], "1")
    async with bench.running():
        bench.passes.clear()
        bench.jobs.remove(job("a", version=2))
        await bench.clock.advance(0)
        assert [key for _, key in bench.passes] == [A]


async def test_an_edit_goes_before_a_change_of_status() -> None:
    bench = Bench("edit-first", workers=1)
    bench.jobs.replace([job("a"), job("b")], "1")
    async with bench.running():
        bench.passes.clear()
        bench.jobs.upsert(job("a", version=2))
        bench.jobs.upsert(job("b", version=3, generation=2))
        await bench.clock.advance(0)
        assert [key for _, key in bench.passes] == [B, A]


async def test_a_change_during_a_pass_is_followed_by_another_never_beside_it(
    bench: Bench,
) -> None:
    gate = asyncio.Event()
    busy: set[Key] = set()

    async def slow(key: Key) -> Result:
        assert key not in busy
        busy.add(key)
        await gate.wait()
        busy.discard(key)
        return Result()

    bench.do = slow
    bench.jobs.replace([job("a")], "1")
    async with bench.running():
        bench.jobs.upsert(job("a", version=2))
        bench.jobs.upsert(job("a", version=3))
        await bench.clock.advance(1)
        assert len(bench.passes) == 1
        gate.set()
        await bench.clock.advance(1)
        assert len(bench.passes) == 2


async def test_a_pass_may_ask_to_look_again(bench: Bench) -> None:
    answers = iter([Result(after=30), Result(after=5), Result()])

    async def ask(key: Key) -> Result:
        return next(answers)

    bench.do = ask
    bench.jobs.replace([job("a")], "1")
    async with bench.running():
        await bench.clock.advance(1000)
        assert bench.moments(A) == [0, 30, 35]


async def test_a_key_may_be_asked_for_from_outside(bench: Bench) -> None:
    bench.jobs.replace([], "1")
    async with bench.running():
        bench.controller.enqueue(A, after=7)
        await bench.clock.advance(10)
        assert bench.moments(A) == [7]


async def test_a_failure_is_retried_and_counted_until_a_success(bench: Bench) -> None:
    async def fail_thrice(key: Key) -> Result:
        if len(bench.passes) <= 3:
            raise Transient("Timeout", "late")
        return Result()

    bench.do = fail_thrice
    bench.jobs.replace([job("a")], "1")
    async with bench.running():
        assert bench.controller.failures(A) == 1
        await bench.clock.advance(100)
        assert len(bench.passes) == 4
        assert bench.controller.failures(A) == 0


async def test_a_rejected_object_waits_for_its_edit(bench: Bench) -> None:
    async def reject(key: Key) -> Result:
        raise Rejected("InvalidSize", "size must be positive")

    bench.do = reject
    bench.jobs.replace([job("a")], "1")
    async with bench.running():
        await bench.clock.advance(10_000)
        assert len(bench.passes) == 1
        bench.jobs.upsert(job("a", version=2, generation=2))
        await bench.clock.advance(0)
        assert len(bench.passes) == 2


async def test_a_blocked_object_is_looked_at_after_its_time(bench: Bench) -> None:
    async def block(key: Key) -> Result:
        raise Blocked("QuotaExceeded", "ask for more", retry_after=300)

    bench.do = block
    bench.jobs.replace([job("a")], "1")
    async with bench.running():
        await bench.clock.advance(299)
        assert len(bench.passes) == 1
        await bench.clock.advance(32)
        assert len(bench.passes) == 2


async def test_a_stale_read_is_tried_again_soon_and_silently(bench: Bench) -> None:
    async def stale_once(key: Key) -> Result:
        if len(bench.passes) == 1:
            raise Stale("Conflict", "old")
        return Result()

    bench.do = stale_once
    bench.jobs.replace([job("a")], "1")
    with capture_logs() as logs:
        async with bench.running():
            await bench.clock.advance(0.1)
    assert len(bench.passes) == 2
    assert [each for each in logs if each["log_level"] != "debug"] == []


async def test_a_bug_is_logged_with_its_trace_counted_and_harms_no_other_key(
    bench: Bench,
) -> None:
    async def crash(key: Key) -> Result:
        if key == A:
            raise ZeroDivisionError
        return Result()

    bench.do = crash
    bench.jobs.replace([job("a"), job("b")], "1")
    with capture_logs() as logs:
        async with bench.running():
            bench.jobs.upsert(job("b", version=2))
            await bench.clock.advance(0)
    assert len(bench.moments(B)) == 2
    [entry] = [each for each in logs if each["log_level"] == "error"]
    assert isinstance(entry["exc_info"], ZeroDivisionError)
    name = bench.controller.name
    panics = "controller_runtime_reconcile_panics_total"
    assert REGISTRY.get_sample_value(panics, {"controller": name}) == 1


async def test_a_pass_that_takes_too_long_is_cut_off_and_retried() -> None:
    bench = Bench("too-long", deadline=0.05)

    async def hang(key: Key) -> Result:
        if len(bench.passes) == 1:
            await asyncio.Event().wait()
        return Result()

    bench.do = hang
    bench.jobs.replace([job("a")], "1")
    with capture_logs() as logs:
        async with bench.running():
            await asyncio.sleep(0.1)
            await bench.clock.advance(1)
    assert len(bench.passes) == 2
    assert [each["reason"] for each in logs if "reason" in each] == ["PassTooLong"]


async def test_a_timeout_of_the_pass_own_making_is_a_bug(bench: Bench) -> None:
    async def own_timeout(key: Key) -> Result:
        raise TimeoutError

    bench.do = own_timeout
    bench.jobs.replace([job("a")], "1")
    with capture_logs() as logs:
        async with bench.running():
            pass
    assert [each["event"] for each in logs if each["log_level"] == "error"] == [
        "pass failed by a bug"
    ]


class TestOwnReads:
    """After a write, no pass on the key until the cache shows it."""

    async def test_a_pass_waits_for_the_write_to_show(self, bench: Bench) -> None:
        pods = Cache(Pod)
        pods.replace([], "5")
        bench.jobs.replace([job("a"), job("b")], "1")
        async with bench.running():
            bench.passes.clear()
            bench.controller.hold(A, pods, Key("ns", "p"), "7")
            bench.jobs.upsert(job("a", version=2))
            bench.jobs.upsert(job("b", version=3))
            await bench.clock.advance(1)
            assert [key for _, key in bench.passes] == [B]
            pods.upsert(pod("p", "a", version=7))
            await bench.clock.advance(0)
            assert bench.moments(A) == [1]
            await bench.clock.advance(20)
            assert bench.moments(A) == [1], "held once, not run twice"

    async def test_other_objects_of_the_cache_do_not_end_it(self, bench: Bench) -> None:
        pods = Cache(Pod)
        pods.replace([], "5")
        bench.jobs.replace([job("a")], "1")
        async with bench.running():
            bench.passes.clear()
            bench.controller.hold(A, pods, Key("ns", "p"), "9")
            bench.jobs.upsert(job("a", version=2))
            pods.upsert(pod("other", "a", version=6))
            pods.upsert(pod("p", "a", version=8))
            await bench.clock.advance(1)
            assert bench.passes == []
            pods.upsert(pod("p", "a", version=9))
            await bench.clock.advance(0)
            assert len(bench.passes) == 1

    async def test_it_ends_after_five_seconds_by_itself(self, bench: Bench) -> None:
        pods = Cache(Pod)
        pods.replace([], "5")
        bench.jobs.replace([job("a")], "1")
        async with bench.running():
            bench.passes.clear()
            bench.controller.hold(A, pods, Key("ns", "p"), "7")
            bench.jobs.upsert(job("a", version=2))
            await bench.clock.advance(10)
            assert bench.moments(A) == [5]
            assert bench.controller._held_for == {}, "nothing is left of it"

    async def test_a_write_that_shows_already_holds_nothing(self, bench: Bench) -> None:
        pods = Cache(Pod)
        pods.replace([pod("p", "a", version=7)], "7")
        bench.jobs.replace([job("a")], "1")
        async with bench.running():
            bench.passes.clear()
            bench.controller.hold(A, pods, Key("ns", "p"), "7")
            bench.jobs.upsert(job("a", version=2))
            await bench.clock.advance(0)
            assert len(bench.passes) == 1
