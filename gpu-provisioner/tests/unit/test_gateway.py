"""Changing pools: exactly once, within the limits, sure of what happened."""

from dataclasses import replace
from datetime import timedelta

import pytest
from provisioner_world.builders import NAME, SIZE, pool
from provisioner_world.memory_pools import MemoryPools

from controlkit_testing import FakeClock
from gpu_provisioner.azure.errors import AzureError, Failure
from gpu_provisioner.azure.gateway import Gateway
from gpu_provisioner.azure.pools import PoolSpec, Shape
from gpu_provisioner.binding import CREATED_TAG

SPEC = PoolSpec(NAME, Shape(SIZE))


async def test_a_pool_is_made_and_known_at_once() -> None:
    pools = MemoryPools()
    gateway = Gateway(pools, FakeClock())
    gateway.await_turn(NAME)
    made = await gateway.create(SPEC)
    assert gateway.directory.get(NAME) == made
    assert pools.calls == [("put", NAME)]


async def test_49_a_cut_connection_after_the_pool_was_accepted_leaves_one_pool_and_no_error() -> (
    None
):
    pools = MemoryPools()
    pools.cut = {"put"}
    gateway = Gateway(pools, FakeClock())
    assert (await gateway.create(SPEC)).name == NAME
    assert pools.calls == [("put", NAME), ("get", NAME)]
    assert len(pools.pools) == 1


async def test_a_failed_request_that_was_not_carried_out_stays_failed() -> None:
    pools = MemoryPools()
    pools.fail["put"] = [Failure("transient", "500")]
    with pytest.raises(AzureError, match="500"):
        await Gateway(pools, FakeClock()).create(SPEC)


async def test_when_nobody_answers_the_last_word_counts() -> None:
    pools = MemoryPools()
    pools.fail = {"put": [Failure("transient", "cut")], "get": [Failure("credentials", "expired")]}
    with pytest.raises(AzureError, match="expired"):
        await Gateway(pools, FakeClock()).create(SPEC)


async def test_a_pool_that_exists_is_found_and_not_changed() -> None:
    pools = MemoryPools()
    pools.pools[NAME] = pool(uid="somebody")
    found = await Gateway(pools, FakeClock()).create(SPEC)
    assert found == pools.pools[NAME]


async def test_a_pool_that_comes_and_goes_is_looked_at_again() -> None:
    class Fleeting(MemoryPools):
        async def create(self, spec: PoolSpec) -> None:
            return None

    with pytest.raises(AzureError) as error:
        await Gateway(Fleeting(), FakeClock()).create(SPEC)
    assert error.value.failure.kind == "changed"


async def test_40_the_21st_pool_at_once_has_to_wait() -> None:
    gateway = Gateway(MemoryPools(), FakeClock())
    for number in range(20):
        gateway.await_turn(f"ws{number}")
        await gateway.create(replace(SPEC, name=f"ws{number}"))
    with pytest.raises(AzureError) as error:
        gateway.await_turn("ws20")
    assert round(error.value.failure.wait(1)) == 60
    assert error.value.reason == "Throttled"


async def test_23_a_throttle_of_one_is_a_throttle_of_all() -> None:
    pools, clock = MemoryPools(), FakeClock()
    pools.fail["put"] = [Failure("throttled", "…", 30.0)]
    gateway = Gateway(pools, clock)
    with pytest.raises(AzureError):
        await gateway.create(SPEC)
    await clock.advance(29)
    with pytest.raises(AzureError) as error:
        gateway.await_turn("another")
    assert error.value.failure.kind == "queued"
    await clock.advance(1)
    gateway.await_turn("another")


async def test_requests_of_an_earlier_leader_are_counted_from_the_pools_tags() -> None:
    pools, clock = MemoryPools(), FakeClock()
    for number in range(18):
        tags = {CREATED_TAG: (clock.now() - timedelta(seconds=1)).isoformat()}
        pools.pools[f"ws{number}"] = replace(pool(), name=f"ws{number}", tags=tags)
    gateway = Gateway(pools, clock)
    await gateway.directory.refresh()
    assert 2.0 <= gateway.puts.left < 2.1
    await gateway.directory.refresh()
    assert 2.0 <= gateway.puts.left < 2.1


async def test_29_a_pool_that_is_being_made_is_told_to_give_up_and_then_deleted() -> None:
    pools = MemoryPools()
    gateway = Gateway(pools, FakeClock())
    making = await gateway.create(SPEC)
    with pytest.raises(AzureError) as error:
        await gateway.delete(making)
    assert error.value.failure.kind == "conflict"
    assert pools.calls[-1] == ("abort", NAME)
    given_up = await pools.get(NAME)
    assert given_up is not None
    await gateway.delete(given_up)
    known = gateway.directory.get(NAME)
    assert known is not None
    assert known.state == "Deleting"


async def test_a_pool_that_changed_is_looked_at_before_it_is_deleted() -> None:
    pools = MemoryPools()
    pools.pools[NAME] = pool(etag="newer")
    gateway = Gateway(pools, FakeClock())
    with pytest.raises(AzureError) as error:
        await gateway.delete(pool(etag="older"))
    assert error.value.failure.kind == "changed"
    fresh = gateway.directory.get(NAME)
    assert fresh is not None
    assert fresh.etag == "newer"
    await gateway.delete(fresh)


async def test_a_pool_that_is_gone_is_gone() -> None:
    pools = MemoryPools()
    gateway = Gateway(pools, FakeClock())
    gateway.directory.learn(pool())
    await gateway.delete(pool())
    assert gateway.directory.get(NAME) is None
    gateway.directory.learn(pool())
    pools.fail["delete"] = [Failure("gone", "…")]
    await gateway.delete(pool())
    assert gateway.directory.get(NAME) is None
    await gateway.confirm_gone(NAME)


async def test_a_pool_that_is_still_there_is_not_confirmed_gone() -> None:
    pools = MemoryPools()
    pools.pools[NAME] = pool("Deleting")
    gateway = Gateway(pools, FakeClock())
    with pytest.raises(AzureError, match="still there"):
        await gateway.confirm_gone(NAME)
    assert gateway.directory.get(NAME) is not None


async def test_26_a_missing_cluster_is_not_a_missing_pool() -> None:
    pools = MemoryPools()
    pools.fail["get"] = [Failure("no-cluster", "Azure does not know the managed cluster.")]
    with pytest.raises(AzureError, match="ClusterNotFound"):
        await Gateway(pools, FakeClock()).confirm_gone(NAME)


async def test_an_abort_that_is_refused_says_so() -> None:
    pools = MemoryPools()
    gateway = Gateway(pools, FakeClock())
    making = await gateway.create(SPEC)
    pools.fail["abort"] = [Failure("forbidden", "no right to abort")]
    with pytest.raises(AzureError, match="no right to abort"):
        await gateway.delete(making)
