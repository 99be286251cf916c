"""How the reflector keeps its cache right when the API server does not behave; in virtual time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import pytest
from structlog.testing import capture_logs

from controlkit.cache import Cache
from controlkit.errors import ControlError, NotFound, Transient
from controlkit.kube.objects import ApiModel, Key, KubeObject, Resource
from controlkit.kube.reflector import Reflector
from controlkit_testing import LoopClock, MemoryApi
from controlkit_testing.api import Hang

pytestmark = pytest.mark.looptime

PODS = Resource("", "v1", "pods", "Pod")


class PodSpec(ApiModel):
    priority: int = 0


class Pod(KubeObject):
    RESOURCE: ClassVar[Resource] = PODS

    spec: PodSpec = PodSpec()


class Bench:
    def __init__(self, **settings: Any) -> None:
        self.api = MemoryApi()
        self.cache = Cache(Pod)
        self.reflector = Reflector(self.api.client(), self.cache, clock=LoopClock(), **settings)

    def put(self, name: str, **spec: Any) -> None:
        self.api.put(PODS, {"metadata": {"name": name, "namespace": "ns"}, "spec": spec})

    def remove(self, name: str) -> None:
        self.api.remove(PODS, Key("ns", name))

    def names(self) -> set[str]:
        return {each.metadata.name for each in self.cache.all()}

    def count(self, verb: str) -> int:
        return sum(called == verb for called, _ in self.api.calls)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.reflector.run())
            await self.cache.synced.wait()
            await asyncio.sleep(0.01)
            yield
            task.cancel()


async def test_it_lists_then_follows_every_change() -> None:
    bench = Bench()
    bench.put("a")
    async with bench.running():
        assert bench.names() == {"a"}
        bench.put("b")
        bench.put("a", priority=5)
        bench.remove("b")
        await asyncio.sleep(0.01)
        assert [each.spec.priority for each in bench.cache.all()] == [5]
    assert bench.count("GET") == 1


async def test_a_watch_that_ends_regularly_goes_on_from_where_it_was() -> None:
    bench = Bench()
    async with bench.running():
        await asyncio.sleep(3600)
        bench.put("a")
        await asyncio.sleep(1)
        assert bench.names() == {"a"}
    assert bench.count("GET") == 1, "no new list"
    assert 6 <= bench.count("WATCH") <= 13, "a watch lasts 5 to 10 minutes"


async def test_a_server_that_closes_at_once_is_not_hammered() -> None:
    bench = Bench()
    async with bench.running():
        before = bench.count("WATCH")
        end = asyncio.get_running_loop().time() + 60
        while asyncio.get_running_loop().time() < end:
            bench.api.cut()
            await asyncio.sleep(0.005)
        assert bench.count("WATCH") - before < 12
        bench.put("a")
        await asyncio.sleep(31)
        assert bench.names() == {"a"}


async def test_after_410_it_lists_again_and_tells_what_it_missed() -> None:
    bench = Bench()
    bench.put("stays")
    bench.put("goes")
    async with bench.running():
        gone: list[str] = []
        bench.cache.subscribe(lambda old, new: gone.append(str(old)) if new is None else None)
        bench.api.fault = lambda verb, _: Transient("Down", "away") if verb == "WATCH" else None
        bench.api.cut()
        await asyncio.sleep(0.05)
        bench.remove("goes")
        bench.put("comes")
        bench.api.compact()
        bench.api.fault = lambda _verb, _path: None
        await asyncio.sleep(31)
        assert bench.names() == {"stays", "comes"}
        assert len(gone) == 1
    assert bench.count("GET") == 2


async def test_an_error_inside_the_stream_is_taken_for_what_it_is() -> None:
    bench = Bench()
    async with bench.running():
        bench.api.say({"type": "ERROR", "object": {"code": 410, "reason": "Expired"}})
        await asyncio.sleep(5)
        assert bench.count("GET") == 2
        bench.api.say({"type": "ERROR", "object": {"code": 500, "reason": "InternalError"}})
        await asyncio.sleep(5)
        assert bench.count("GET") == 2, "a server error is no reason to list"
        bench.put("a")
        await asyncio.sleep(5)
        assert bench.names() == {"a"}


async def test_half_a_line_is_no_event() -> None:
    bench = Bench()
    bench.put("a")
    async with bench.running():
        bench.api.cut(b'{"type":"DELETED","object":{"metadata":{"name":"a","names')
        await asyncio.sleep(5)
        assert bench.names() == {"a"}
        bench.put("b")
        await asyncio.sleep(5)
        assert bench.names() == {"a", "b"}


async def test_a_line_that_is_no_event_is_survived() -> None:
    bench = Bench()
    async with bench.running():
        bench.api.say({"kind": "Nonsense"})
        await asyncio.sleep(5)
        bench.put("a")
        await asyncio.sleep(5)
        assert bench.names() == {"a"}


async def test_silence_beyond_the_idle_deadline_is_a_dead_connection() -> None:
    bench = Bench(idle=100.0)
    bench.api.silent = True
    async with bench.running():
        watches = bench.count("WATCH")
        await asyncio.sleep(95)
        assert bench.count("WATCH") == watches
        await asyncio.sleep(6)
        assert bench.count("WATCH") == watches + 1


async def test_half_a_minute_of_silence_is_borne_and_a_dead_connection_loses_nothing() -> None:
    bench = Bench()
    bench.put("goes")
    async with bench.running():
        watches = bench.count("WATCH")
        bench.api._watchers.clear()  # the connection stands, and nothing comes through any more
        bench.remove("goes")
        bench.put("comes")
        await asyncio.sleep(30)
        assert (bench.count("WATCH"), bench.names()) == (watches, {"goes"})
        await asyncio.sleep(171)
        assert (bench.count("WATCH"), bench.names()) == (watches + 1, {"comes"})
    assert bench.count("GET") == 1, "the watch went on from where it was"


async def test_bookmarks_keep_a_quiet_watch_alive_and_move_it_on() -> None:
    bench = Bench(idle=100.0)
    async with bench.running():
        watches = bench.count("WATCH")
        bench.api.put(
            Resource("", "v1", "nodes", "Node", namespaced=False), {"metadata": {"name": "n"}}
        )
        await asyncio.sleep(250)
        assert bench.count("WATCH") == watches
        bench.api.compact()
        bench.api.cut()
        await asyncio.sleep(1)
    assert bench.count("GET") == 1, "the bookmark's version is still known after the compaction"


async def test_a_list_that_gets_no_answer_is_tried_again() -> None:
    bench = Bench()
    hangs = [Hang("Hang", ""), None]
    bench.api.fault = lambda verb, _: hangs.pop(0) if verb == "GET" else None
    bench.put("a")
    began = asyncio.get_running_loop().time()
    async with bench.running():
        assert bench.names() == {"a"}
        assert 30 < asyncio.get_running_loop().time() - began < 31


async def test_it_never_gives_up_and_waits_at_most_half_a_minute() -> None:
    bench = Bench()
    bench.api.fault = lambda _verb, _path: Transient("Unreachable", "away")
    async with asyncio.TaskGroup() as group:
        task = group.create_task(bench.reflector.run())
        await asyncio.sleep(3600)
        tries = bench.count("GET")
        bench.api.fault = lambda _verb, _path: None
        await asyncio.sleep(30)
        assert bench.cache.synced.is_set()
        task.cancel()
    assert 120 <= tries <= 260


async def test_it_waits_as_long_as_the_server_asks() -> None:
    bench = Bench()
    busy: list[ControlError | None] = [Transient("TooManyRequests", "slow down", retry_after=45)]
    bench.api.fault = lambda *_: busy.pop() if busy else None
    began = asyncio.get_running_loop().time()
    async with bench.running():
        assert asyncio.get_running_loop().time() - began >= 45


class TestUnreadableObjects:
    """An object that does not fit the view must not hide the others."""

    async def test_one_in_a_list_is_left_out_and_reported(self) -> None:
        bench = Bench()
        bench.put("good", priority=1)
        bench.put("bad", priority="high")
        with capture_logs() as logs:
            async with bench.running():
                assert bench.names() == {"good"}
        [report] = [each for each in logs if each["log_level"] == "error"]
        assert report["object"] == "ns/bad"
        assert report["problems"][0].startswith("spec.priority")

    async def test_one_that_becomes_so_keeps_its_last_readable_state(self) -> None:
        bench = Bench()
        bench.put("a", priority=1)
        async with bench.running():
            bench.put("a", priority="high")
            bench.put("b")
            await asyncio.sleep(1)
            assert bench.names() == {"a", "b"}
            bench.remove("a")
            await asyncio.sleep(1)
            assert bench.names() == {"b"}


class TestOptionalKind:
    """A kind that the API server may not serve."""

    @staticmethod
    def missing(_verb: str, _path: str) -> ControlError:
        return NotFound("NotFound", "the server could not find the requested resource")

    async def test_its_cache_is_synced_and_empty_and_says_so(self) -> None:
        bench = Bench(optional=True)
        bench.api.fault = self.missing
        async with bench.running():
            assert not bench.cache.served
            assert len(bench.cache) == 0
            await asyncio.sleep(300)
        assert 10 <= bench.count("GET") <= 11, "looked for every 30 s"

    async def test_it_is_followed_once_it_is_served(self) -> None:
        bench = Bench(optional=True)
        bench.put("a")
        bench.api.fault = self.missing
        async with bench.running():
            bench.api.fault = lambda _verb, _path: None
            await asyncio.sleep(31)
            assert bench.cache.served
            assert bench.names() == {"a"}

    async def test_when_it_goes_away_its_objects_are_gone(self) -> None:
        bench = Bench(optional=True)
        bench.put("a")
        async with bench.running():
            assert bench.names() == {"a"}
            bench.api.fault = self.missing
            bench.api.cut()
            await asyncio.sleep(31)
            assert not bench.cache.served
            assert bench.names() == set()

    async def test_a_required_kind_that_is_missing_leaves_the_cache_unfilled(self) -> None:
        bench = Bench()
        bench.api.fault = self.missing
        async with asyncio.TaskGroup() as group:
            task = group.create_task(bench.reflector.run())
            await asyncio.sleep(600)
            assert not bench.cache.synced.is_set()
            task.cancel()
