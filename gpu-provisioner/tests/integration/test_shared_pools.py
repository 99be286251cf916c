"""Claims that share pools, against a real API server and an emulated Azure."""

import asyncio

import pytest
from provisioner_world.bench import Bench
from provisioner_world.processes import ProvisionerProcess
from provisioner_world.sharing import Sharing

from controlkit.kube.objects import Key, Resource
from controlkit_testing.waiting import eventually
from gpuapis.core import Node
from gpuapis.labels import AGENT_POOL, ASSIGNED_POOL


async def test_claims_that_wait_together_come_with_one_request(sharing: Sharing) -> None:
    names = await sharing.create(5)
    await sharing.all_ready(names)
    [(pool, count)] = (await sharing.pools()).items()
    assert count == 5
    assert await sharing.asked() == [("PUT", pool, 201)]
    for name in names:
        node = await sharing.bench.client.get(Node, Key("", await sharing.vm_of(name)))
        assert node is not None
        # What the claim carries comes by registration; our notes stay on the claim.
        assert node.metadata.labels["kaito.sh/workspace"] == "phi-3"
        assert node.metadata.labels[AGENT_POOL] == pool
        assert ASSIGNED_POOL not in node.metadata.labels
        assert [taint.key for taint in node.spec.taints] == ["sku"]


async def test_one_claim_goes_with_its_own_vm_and_the_others_stay(sharing: Sharing) -> None:
    names = await sharing.create(3)
    await sharing.all_ready(names)
    before = {name: await sharing.vm_of(name) for name in names}
    await sharing.bench.delete(names[1])
    await sharing.none_left([names[1]])
    assert await sharing.vms() == sorted([before[names[0]], before[names[2]]])
    assert [verb for verb, _, _ in await sharing.asked()] == ["PUT", "DELETE_MACHINES"]


async def test_claims_that_leave_together_go_with_one_request(sharing: Sharing) -> None:
    names = await sharing.create(4)
    await sharing.all_ready(names)
    for name in names[1:]:
        await sharing.bench.delete(name)
    await sharing.none_left(names[1:])
    assert [verb for verb, _, _ in await sharing.asked()] == ["PUT", "DELETE_MACHINES"]


async def test_an_idle_pool_grows_and_a_busy_one_gets_a_neighbour(sharing: Sharing) -> None:
    first = await sharing.create(2)
    await sharing.all_ready(first)
    second = await sharing.create(2)
    await sharing.all_ready([*first, *second])
    assert list((await sharing.pools()).values()) == [4]
    await sharing.bench.control.set(timings={"join": 60})
    third = await sharing.create(1)
    await asyncio.sleep(2)
    fourth = await sharing.create(1)
    await sharing.all_ready([*first, *second, *third, *fourth])
    assert sorted((await sharing.pools()).values()) == [1, 5]
    assert [answer for _, _, answer in await sharing.asked()] == [201, 200, 200, 201]


async def test_claims_of_other_shapes_get_other_pools(sharing: Sharing) -> None:
    small = await sharing.create(2)
    large = await sharing.create(2, resources={"requests": {"storage": "200Gi"}})
    await sharing.all_ready([*small, *large])
    assert list((await sharing.pools()).values()) == [2, 2]


async def test_a_claim_that_leaves_while_its_pool_is_made_leaves_no_vm(sharing: Sharing) -> None:
    names = await sharing.create(3)
    pool = await _accepted(sharing)
    await sharing.bench.delete(names[0])
    assert (await sharing.pools())[pool] == 3
    await sharing.none_left([names[0]])
    await sharing.all_ready(names[1:])
    assert (await sharing.pools())[pool] == 2


async def test_29_a_pool_that_nobody_waits_for_any_more_is_not_finished(sharing: Sharing) -> None:
    await sharing.bench.control.set(timings={"join": 600})
    names = await sharing.create(3)
    pool = await _accepted(sharing)
    for name in names:
        await sharing.bench.delete(name)
    await sharing.none_left(names)
    assert pool not in await sharing.pools()


async def test_a_place_that_becomes_free_is_taken_without_a_request(sharing: Sharing) -> None:
    await sharing.bench.control.set(timings={"join": 40})
    names = await sharing.create(3)
    await _accepted(sharing)
    await sharing.bench.delete(names[0])
    await asyncio.sleep(1)
    late = await sharing.create(1)
    await sharing.none_left([names[0]])
    await sharing.all_ready([*names[1:], *late])
    # Whether the newcomer took the free VM or had it made anew, none is left over.
    assert sum((await sharing.pools()).values()) == 3


@pytest.mark.parametrize("verb", ["PUT", "DELETE_MACHINES"])
@pytest.mark.parametrize("effect", ["cut", "cut-before", "hang"])
async def test_49_an_unanswered_request_is_looked_up(
    sharing: Sharing, effect: str, verb: str
) -> None:
    await sharing.bench.control.inject(effect, verb=verb)
    names = await sharing.create(2)
    await sharing.all_ready(names)
    if verb == "PUT":  # and once more for one that grows the pool
        await sharing.bench.control.inject(effect, verb=verb)
        names += await sharing.create(2)
        await sharing.all_ready(names)
        assert sum((await sharing.pools()).values()) == 4
    await sharing.bench.delete(names[0])
    await sharing.none_left([names[0]])
    await sharing.all_ready(names[1:])


async def test_what_came_is_kept_and_the_rest_is_told_and_tried_elsewhere(
    sharing: Sharing,
) -> None:
    sold_out = [{"sku": "Standard_NC6s_v3", "beyond": 2}]
    await sharing.bench.control.set(sold_out=sold_out)
    names = await sharing.create(3)

    async def two_are_ready() -> bool:
        told = [(await sharing.bench.condition(name, "Ready"))[0] for name in names]
        return told.count("True") == 2

    await eventually(two_are_ready, lambda: sharing.story("two claims are Ready"), 30)
    left = [name for name in names if (await sharing.bench.condition(name, "Ready"))[0] != "True"]
    assert "choose another" in await sharing.bench.tells(left[0], "InsufficientCapacity")

    async def has_no_place() -> bool:
        return await sharing.place_of(left[0]) == ""

    # Told first, then let go: a kill between the two finds the failure written down.
    await eventually(has_no_place, lambda: sharing.story("the place is given up"), 30)
    await sharing.bench.delete(left[0])
    await sharing.none_left(left)
    await sharing.all_ready([name for name in names if name not in left])


async def test_a_growth_that_fails_leaves_those_alone_that_were_there(sharing: Sharing) -> None:
    first = await sharing.create(2)
    await sharing.all_ready(first)
    before = [await sharing.vm_of(name) for name in first]
    await sharing.bench.control.inject("fail", verb="PUT", error="capacity-regional", seconds=5)
    late = await sharing.create(2)
    for name in late:
        await sharing.bench.tells(name, "InsufficientCapacity")
        await sharing.bench.delete(name)
    await sharing.none_left(late)
    assert [await sharing.vm_of(name) for name in first] == before
    await sharing.all_ready(first)


async def test_33_a_deleted_node_takes_its_claim_and_vm_along_alone(sharing: Sharing) -> None:
    names = await sharing.create(3)
    await sharing.all_ready(names)
    node = Key("", await sharing.vm_of(names[0]))
    await sharing.bench.client.delete(Node.RESOURCE, node)
    await sharing.none_left([names[0]])
    await sharing.all_ready(names[1:])


async def test_pools_of_one_claim_each_are_kept_when_pools_are_shared(
    bench: Bench, provisioner: ProvisionerProcess
) -> None:
    sharing = Sharing(bench)
    old = await sharing.create(2)
    await sharing.all_ready(old)
    for name in old:  # as an older release has left them
        metadata = {"labels": {ASSIGNED_POOL: None}, "annotations": {"kaito.sh/node": None}}
        await bench.client.merge_patch(
            (await _kind_of(bench, name)), Key("", name), {"metadata": metadata}
        )
    provisioner.start(POOL_MODE="shared")
    new = await sharing.create(2)
    await sharing.all_ready([*old, *new])
    pools = await sharing.pools()
    assert [pools[name] for name in old] == [1, 1]
    assert sorted(pools.values()) == [1, 1, 2]
    await bench.delete(old[0])
    await sharing.none_left([old[0]])
    assert old[0] not in await sharing.pools()


async def _accepted(sharing: Sharing) -> str:
    """Waits until Azure has accepted the one pool; returns its name."""

    async def look() -> str | None:
        return next(iter(await sharing.pools()), None)

    return await eventually(look, lambda: sharing.story("a pool is accepted"))


async def _kind_of(bench: Bench, name: str) -> Resource:
    claim = await bench.claim(name)
    assert claim is not None
    return claim.RESOURCE
