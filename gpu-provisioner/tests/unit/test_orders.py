"""How claims get their places, in virtual time: batches, turns, limits, and who is told what."""

from typing import Any

import pytest
from provisioner_world.small_world import SmallWorld

from controlkit.kube.objects import Key
from gpu_provisioner.azure.errors import Failure
from gpu_provisioner.azure.pools import Pool
from gpu_provisioner.pools import allot
from gpuapis.core import Node
from gpuapis.labels import ASSIGNED_POOL
from gpuapis.machine import Machine


@pytest.fixture
def world(request: pytest.FixtureRequest) -> Any:
    made = SmallWorld(getattr(request, "param", "shared"))
    yield made
    made.close()


def turn(world: SmallWorld, times: int = 1) -> None:
    for _ in range(times):
        world.see()
        world.list_pools()
        world.work()


def places(world: SmallWorld) -> list[str]:
    claims = sorted(world.claims(), key=lambda each: str(each["metadata"]["name"]))
    return [each["metadata"]["labels"].get(ASSIGNED_POOL, "") for each in claims]


def told(world: SmallWorld, name: str, aspect: str = "MachineLaunched") -> tuple[str, str]:
    claim = world.api.see(Machine.RESOURCE, Key("", name)) or {}
    conditions = claim.get("status", {}).get("conditions", [])
    found = {each["type"]: each for each in conditions}.get(aspect, {})
    return found.get("reason", ""), found.get("message", "")


def all_well(world: SmallWorld, times: int = 6) -> None:
    for _ in range(times):
        turn(world)
        for name, pool in list(world.azure.pools.items()):
            if pool.state in {"InProgress", "Deleting"}:
                world.end(name, well=True)
        for vm in world.vms():
            world.join(vm)


def create(world: SmallWorld, count: int) -> None:
    for _ in range(count):
        world.create()


def test_others_are_waited_for_until_none_has_come_for_a_second(world: SmallWorld) -> None:
    create(world, 2)
    turn(world, 3)
    world.advance(0.6)
    create(world, 1)
    turn(world, 2)
    world.advance(0.6)
    turn(world)
    assert set(places(world)) == {""}
    world.advance(0.5)
    turn(world)
    assert len(set(places(world))) == 1
    assert [pool.count for pool in world.azure.pools.values()] == [3]


@pytest.mark.parametrize("world", ["dedicated"], indirect=True)
def test_nobody_is_waited_for_where_nobody_can_share(world: SmallWorld) -> None:
    create(world, 3)
    turn(world, 2)
    assert sorted(world.azure.pools) == ["ws1", "ws2", "ws3"]


def test_no_more_than_five_seconds_are_waited(world: SmallWorld) -> None:
    for _ in range(8):
        create(world, 1)
        turn(world, 2)
        world.advance(0.6)
    turn(world)
    assert sum(pool.count for pool in world.azure.pools.values()) >= 6


def test_without_a_turn_claims_wait_and_are_told_how_long(world: SmallWorld) -> None:
    for _ in range(1000):
        world.gateway.puts.take("others")
    create(world, 2)
    turn(world, 3)
    world.advance(1.1)
    turn(world, 2)
    assert not world.azure.pools
    reason, message = told(world, "ws1")
    assert reason == "Throttled"
    assert "it is next" in message
    # Those that come meanwhile get their place with the same turn.
    create(world, 2)
    for _ in range(8):
        world.advance(20)
        turn(world, 2)
    assert [pool.count for pool in world.azure.pools.values()] == [4]


def test_a_full_cluster_is_told_until_there_is_room(world: SmallWorld) -> None:
    for number in range(allot.MOST_POOLS):
        world.azure.pools[f"theirs{number}"] = Pool(f"theirs{number}", "Succeeded", count=1)
    create(world, 1)
    turn(world, 3)
    world.advance(1.1)
    turn(world, 2)
    assert told(world, "ws1")[0] == "PoolLimitReached"
    del world.azure.pools["theirs0"]
    turn(world, 2)
    assert len(world.azure.pools) == allot.MOST_POOLS
    assert places(world) != [""]


def test_a_cluster_with_as_many_nodes_as_aks_allows_is_full_too(world: SmallWorld) -> None:
    world.azure.pools["theirs"] = Pool("theirs", "Succeeded", count=allot.MOST_NODES - 1)
    create(world, 2)
    turn(world, 3)
    world.advance(1.1)
    turn(world, 2)
    assert sorted(place != "" for place in places(world)) == [False, True]
    assert (
        told(world, "ws2")[0] == "PoolLimitReached" or told(world, "ws1")[0] == "PoolLimitReached"
    )


def test_a_vm_that_nobody_wants_goes_to_the_next_claim_without_a_request(
    world: SmallWorld,
) -> None:
    create(world, 2)
    turn(world, 3)
    world.advance(1.1)
    turn(world)
    world.delete("ws1")
    world.end(next(iter(world.azure.pools)), well=True)
    create(world, 1)
    turn(world, 2)
    world.advance(1.1)
    all_well(world)
    assert world.ready()
    assert world.azure.count("put") == 1
    assert world.azure.count("grow") == 0
    assert not world.azure.deleted


def test_a_stranger_s_pool_of_the_chosen_name_is_left_alone(world: SmallWorld) -> None:
    create(world, 2)
    turn(world, 3)
    world.azure.fail["put"] = [Failure("transient", "no")]
    world.advance(1.1)
    turn(world)
    [name] = set(places(world))
    world.azure.pools[name] = Pool(name, "Succeeded", count=7)
    for _ in range(4):
        world.advance(2)
        all_well(world, 2)
    assert world.azure.pools[name] == Pool(name, "Succeeded", count=7)
    assert name not in places(world)
    world.azure.pools.pop(name)
    assert world.ready()


def test_a_vm_that_somebody_added_goes_after_a_while(world: SmallWorld) -> None:
    create(world, 2)
    turn(world, 3)
    world.advance(1.1)
    all_well(world)
    [name] = world.azure.pools
    world.run(world.azure.grow(name, 3, etag=""))
    world.azure.vms[name].append("aks-added")
    all_well(world)
    assert len(world.vms()) == 3
    world.advance(31)
    all_well(world)
    assert world.azure.deleted == ["aks-added"]
    assert world.ready()


def test_a_vm_is_kept_when_the_caches_have_missed_its_claim(world: SmallWorld) -> None:
    create(world, 3)
    turn(world, 3)
    world.advance(1.1)
    all_well(world)
    [name] = world.azure.pools
    # Another process had just given a place to a claim that is not in the cache yet.
    world.machines.remove(world.machines.all()[0])
    world.list_pools()
    world.work()
    world.advance(31)
    for _ in range(3):
        world.list_pools()
        world.work()
    assert not world.azure.deleted
    assert len(world.azure.vms[name]) == 3


def test_an_empty_pool_is_kept_for_the_next_claims_and_then_deleted(world: SmallWorld) -> None:
    create(world, 2)
    turn(world, 3)
    world.advance(1.1)
    all_well(world)
    for name in ("ws1", "ws2"):
        world.delete(name)
    for _ in range(6):
        world.advance(2)
        all_well(world, 2)
    assert [pool.count for pool in world.azure.pools.values()] == [0]
    assert not world.claims()
    assert not world.api.all(Node.RESOURCE)
    create(world, 1)
    turn(world, 2)
    world.advance(1.1)
    all_well(world)
    assert world.azure.count("put") == 1  # the pool was there, and grew
    world.delete("ws3")
    for _ in range(6):
        world.advance(2)
        all_well(world, 2)
    for _ in range(4):
        world.advance(31)
        world.list_pools()
        world.sweep()
        all_well(world, 2)
    assert not world.azure.pools


@pytest.mark.parametrize("world", ["dedicated"], indirect=True)
def test_what_an_older_release_made_is_adopted(world: SmallWorld) -> None:
    create(world, 1)
    turn(world, 2)
    claim = world.claims()[0]
    del claim["metadata"]["labels"][ASSIGNED_POOL]
    claim["metadata"]["annotations"] = {}
    world.api.put(Machine.RESOURCE, claim)
    world.mode = "shared"
    world.start()
    all_well(world)
    assert world.ready()
    assert places(world) == ["ws1"]
    assert world.azure.count("put") == 1
