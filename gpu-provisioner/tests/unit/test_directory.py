"""What is known of the pools, and how fresh it is kept."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from provisioner_world.builders import NAME, pool
from provisioner_world.memory_pools import MemoryPools

from controlkit_testing import FakeClock
from gpu_provisioner.azure.directory import PoolDirectory
from gpu_provisioner.azure.errors import Failure
from gpu_provisioner.azure.pools import Pool
from gpu_provisioner.azure.turns import Turns


@asynccontextmanager
async def running(
    pools: MemoryPools, clock: FakeClock, burst: int = 60
) -> AsyncIterator[tuple[PoolDirectory, list[frozenset[str] | None]]]:
    directory = PoolDirectory(pools, Turns(burst=burst, per_second=1.0, clock=clock), clock)
    heard: list[frozenset[str] | None] = []
    directory.subscribe(heard.append)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(directory.run())
        await clock.advance(0)
        yield directory, heard
        task.cancel()


def told(directory: PoolDirectory) -> str:
    """Why the view cannot be trusted; "" when it can."""
    return directory.trouble.message if directory.trouble else ""


async def test_it_lists_rarely_while_nothing_happens_and_often_while_something_does() -> None:
    pools, clock = MemoryPools(), FakeClock()
    pools.pools[NAME] = pool("Succeeded")
    async with running(pools, clock) as (directory, heard):
        assert directory.known
        assert heard == [None]
        await clock.advance(59)
        assert pools.count("list") == 1
        await clock.advance(2)
        assert pools.count("list") == 2
        pools.end(NAME, "InProgress")
        await clock.advance(60)
        assert heard[:4] == [None, frozenset(), frozenset({NAME}), frozenset()]
        # 1, 2, 3, 4.5, 6.75, 10.1, 15.2, 22.8 and 32.8 s after the change, then every 10 s.
        await clock.advance(34)
        assert pools.count("list") == 12
        await clock.advance(100)
        assert pools.count("list") == 22


async def test_a_look_can_be_asked_for_but_not_more_than_one_a_second() -> None:
    pools, clock = MemoryPools(), FakeClock()
    async with running(pools, clock) as (directory, _):
        directory.look_within(2)
        await clock.advance(2)
        assert pools.count("list") == 2
        for _again in range(5):
            directory.look_within(0)
            await clock.advance(0.1)
        assert pools.count("list") == 2
        await clock.advance(1)
        assert pools.count("list") == 3


async def test_changes_are_told_by_name() -> None:
    pools, clock = MemoryPools(), FakeClock()
    async with running(pools, clock) as (_, heard):
        await clock.advance(60)
        assert heard == [None, frozenset()]
        pools.pools["new1"] = replace(pool(), name="new1")
        pools.pools["new2"] = replace(pool(), name="new2")
        await clock.advance(60)
        assert heard[-1] == frozenset({"new1", "new2"})
        del pools.pools["new1"]
        await clock.advance(60)
        assert heard[-1] == frozenset({"new1"})


class SlowPools(MemoryPools):
    """Answers a list with what was there when it was asked."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._clock = clock
        self.seconds = 0.0

    async def list(self) -> list[Pool]:
        answer = await super().list()
        await self._clock.sleep(self.seconds)
        return answer


async def test_an_answer_to_an_older_question_does_not_hide_our_own_change() -> None:
    clock = FakeClock()
    pools = SlowPools(clock)
    pools.pools["old"] = replace(pool(), name="old")
    async with running(pools, clock) as (directory, _):
        pools.seconds = 5
        directory.look_within(0)
        await clock.advance(2)  # the question is under way
        directory.learn(replace(pool("InProgress"), name="made"))
        directory.forget("old")
        await clock.advance(5)
        assert directory.get("made") is not None
        assert directory.get("old") is None
        pools.pools = {"other": replace(pool(), name="other")}
        await clock.advance(30)
        assert directory.get("made") is None
        assert len(directory) == 1


async def test_24_a_few_failures_are_overlooked_and_more_are_told_once() -> None:
    pools, clock = MemoryPools(), FakeClock()
    async with running(pools, clock) as (directory, heard):
        pools.fail["list"] = [Failure("transient", f"trace {number}") for number in range(6)]
        directory.look_within(0)
        await clock.advance(1)
        assert told(directory) == ""
        await clock.advance(3)
        assert told(directory) == "trace 0"
        assert heard == [None, None]
        await clock.advance(60)
        assert told(directory) == ""
        assert heard == [None, None, None]


async def test_25_a_first_failure_is_told_at_once_and_recovery_is_soon_seen() -> None:
    pools, clock = MemoryPools(), FakeClock()
    pools.fail["list"] = [Failure("credentials", "no"), Failure("credentials", "no")]
    async with running(pools, clock) as (directory, heard):
        assert directory.age is None
        assert told(directory) == "no"
        assert heard == [None]
        directory.look_within(0)  # does not hurry what fails
        await clock.advance(4)
        assert pools.count("list") == 1
        await clock.advance(1)
        assert pools.count("list") == 2
        await clock.advance(10)
        assert told(directory) == ""
        assert directory.age is not None


async def test_a_throttled_list_waits_for_all() -> None:
    pools, clock = MemoryPools(), FakeClock()
    pools.fail["list"] = [Failure("throttled", "slow down", 45.0)]
    async with running(pools, clock) as (_, _heard):
        await clock.advance(44)
        assert pools.count("list") == 1
        await clock.advance(2)
        assert pools.count("list") == 2


async def test_a_list_takes_its_turn_in_the_line() -> None:
    pools, clock = MemoryPools(), FakeClock()
    async with running(pools, clock, burst=1) as (directory, _):
        directory.look_within(0)
        await clock.advance(0.5)
        assert pools.count("list") == 1
        await clock.advance(1)
        assert pools.count("list") == 2


async def test_the_cluster_s_own_pools_tell_the_subnets() -> None:
    pools, clock = MemoryPools(), FakeClock()
    async with running(pools, clock) as (directory, _):
        assert directory.subnets == ("", "")
        pools.pools["a"] = replace(pool(), name="a", subnet="/mine")
        pools.pools["s"] = replace(pool(), name="s", system=True, subnet="/n", pod_subnet="/p")
        await clock.advance(60)
        assert directory.subnets == ("/n", "/p")
        assert {each.name for each in directory.all()} == {"a", "s"}
