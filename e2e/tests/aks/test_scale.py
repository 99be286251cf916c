"""Pools that grow and shrink, and what happens when two do it at once."""

import asyncio

import pytest
from azure.core.exceptions import (
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
)
from azure.mgmt.containerservice.models import AgentPoolDeleteMachinesParameter

from sandbox.aks.testing import Bench, Starter, status_and_code

T4 = "Standard_NC4as_T4_v3"


async def test_nodes_of_a_pool_join_one_by_one(start: Starter) -> None:
    async with start(timings={"joinSpread": 1500}) as bench:  # 0.3 s
        await bench.created("ws1", count=5)
        vms = await bench.settled(nodes=5, joined=5)
    joined = [vm["joinedAt"] for vm in vms]
    assert len(set(joined)) == 5
    assert min(joined) == joined[0]  # the first one comes when the timings say
    assert max(joined) - min(joined) > 0.02


async def test_an_operation_ends_when_its_last_node_is_ready(start: Starter) -> None:
    async with start(timings={"joinSpread": 1500}) as bench:
        await bench.created("ws1", count=5)
        vms = await bench.control.nodes()
        (operation,) = await bench.control.operations()
    assert all(vm["readyAt"] is not None for vm in vms)
    assert operation["status"] == "Succeeded"


@pytest.mark.parametrize("count", [1, 2, 4], ids=["down", "same", "up"])
async def test_no_scale_begins_while_another_runs(bench: Bench, count: int) -> None:
    await bench.created("ws1", count=2)
    await bench.control.inject("stuck")
    await bench.create("ws1", count=3)
    error = await bench.refused("ws1", count=count)
    assert isinstance(error, ResourceExistsError)
    assert status_and_code(error) == (409, "OperationNotAllowed")
    assert "Another agentpool operation (ws1 - Scaling) is in progress" in str(error)
    assert (await bench.get("ws1")).count == 3


async def test_of_two_scales_of_one_version_the_second_is_refused(bench: Bench) -> None:
    read = await bench.created("ws1")
    await (await bench.create("ws1", etag=str(read.e_tag), count=3)).result()
    error = await bench.refused("ws1", etag=str(read.e_tag), count=2)
    assert isinstance(error, ResourceModifiedError)
    assert (await bench.get("ws1")).count == 3

    now = await bench.get("ws1")
    await (await bench.create("ws1", etag=str(now.e_tag), count=2)).result()
    await bench.settled(nodes=2)


async def test_the_end_of_a_scale_gives_the_pool_another_version(bench: Bench) -> None:
    await bench.created("ws1")
    await bench.create("ws1", count=2)
    during = (await bench.get("ws1")).e_tag
    await bench.idle()
    error = await bench.refused("ws1", etag=str(during), count=3)
    assert status_and_code(error) == (412, "PreconditionFailed")


async def test_a_scale_that_fails_to_begin_changes_nothing(bench: Bench) -> None:
    before = await bench.created("ws1")
    await bench.control.inject("error", error="internal")
    assert status_and_code(await bench.refused("ws1", count=4))[0] == 500
    after = await bench.get("ws1")
    assert (after.count, after.e_tag) == (1, before.e_tag)


async def test_a_machine_goes_by_name_and_the_others_stay(bench: Bench) -> None:
    await bench.created("ws1", count=3, vmSize=T4)
    first, second, third = [vm["node"] for vm in await bench.control.nodes()]
    before = await bench.get("ws1")
    await delete_machines(bench, "ws1", second)
    pool = await bench.get("ws1")
    assert (pool.count, pool.provisioning_state) == (2, "Succeeded")
    assert pool.e_tag != before.e_tag
    assert await machines(bench, "ws1") == [first, third]
    assert (await bench.control.usage())["vcpus"]["regional"] == 8

    await delete_machines(bench, "ws1", first, third)
    assert (await bench.get("ws1")).count == 0
    assert "ws1" in await bench.names()  # an empty pool stays until it is deleted


async def test_a_machine_deleted_before_its_node_joined_never_joins(start: Starter) -> None:
    async with start(timings={"operation": 0, "join": 5000, "joinSpread": 0}) as bench:  # 1 s
        await bench.created("ws1", count=2)
        unborn, other = [vm["node"] for vm in await bench.control.nodes()]
        await delete_machines(bench, "ws1", unborn)
        (vm,) = await bench.settled(nodes=1, joined=1)
        assert vm["node"] == other


async def test_a_number_of_a_machine_is_not_given_twice(bench: Bench) -> None:
    await bench.created("ws1", count=2)
    names = await machines(bench, "ws1")
    await delete_machines(bench, "ws1", names[1])
    await bench.created("ws1", count=2)
    assert names[1] not in await machines(bench, "ws1")


async def test_deleting_a_machine_waits_for_no_other_operation(bench: Bench) -> None:
    await bench.created("ws1", count=2)
    (name, _) = await machines(bench, "ws1")
    await bench.control.inject("stuck")
    await bench.create("ws1", count=3)
    with pytest.raises(ResourceExistsError) as caught:
        await delete_machines(bench, "ws1", name)
    assert status_and_code(caught.value) == (409, "OperationNotAllowed")
    assert name in await machines(bench, "ws1")


async def test_of_two_clients_that_delete_machines_one_has_to_come_again(bench: Bench) -> None:
    await bench.created("ws1", count=3)
    names = await machines(bench, "ws1")
    await bench.control.set(timings={"update": 2500})  # half a second
    first, second = await asyncio.gather(
        delete_machines(bench, "ws1", names[0]),
        delete_machines(bench, "ws1", names[1]),
        return_exceptions=True,
    )
    refused = [error for error in (first, second) if isinstance(error, ResourceExistsError)]
    assert len(refused) == 1
    assert (await bench.get("ws1")).count == 2


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "one or more machines"),
        (["aks-ws1-00000000-vmss000000"], "no machine 'aks-ws1-00000000-vmss000000'"),
    ],
    ids=["none", "unknown"],
)
async def test_a_list_of_machines_that_makes_no_sense_is_refused(
    bench: Bench, names: list[str], words: str
) -> None:
    await bench.created("ws1", count=2)
    with pytest.raises(HttpResponseError, match=words) as caught:
        await delete_machines(bench, "ws1", *names)
    assert status_and_code(caught.value) == (400, "InvalidParameter")
    assert (await bench.get("ws1")).count == 2


async def test_one_unknown_machine_saves_the_known_ones(bench: Bench) -> None:
    await bench.created("ws1", count=2)
    known = await machines(bench, "ws1")
    with pytest.raises(HttpResponseError):
        await delete_machines(bench, "ws1", known[0], "aks-ws1-00000000-vmss000000")
    assert await machines(bench, "ws1") == known


async def test_machines_of_an_absent_pool_are_not_found(bench: Bench) -> None:
    with pytest.raises(ResourceNotFoundError):
        await delete_machines(bench, "ws1", "aks-ws1-00000000-vmss000000")
    with pytest.raises(ResourceNotFoundError):
        await machines(bench, "ws1")


async def test_a_system_pool_keeps_a_machine(bench: Bench) -> None:
    await bench.created("sys2", count=2, mode="System", vmSize="Standard_D4s_v3")
    names = await machines(bench, "sys2")
    with pytest.raises(HttpResponseError, match="at least one machine"):
        await delete_machines(bench, "sys2", *names)
    await delete_machines(bench, "sys2", names[0])
    assert await machines(bench, "sys2") == names[1:]


async def test_a_spot_vm_that_is_evicted_while_its_pool_grows_is_not_made_again(
    bench: Bench,
) -> None:
    await bench.created("ws1", count=2, scaleSetPriority="Spot")
    evicted, _ = await machines(bench, "ws1")
    await bench.control.set(timings={"join": 2500})  # half a second
    poller = await bench.create("ws1", count=3, scaleSetPriority="Spot")
    await bench.control.evict("ws1", node=evicted)
    await poller.result()
    await bench.settled(nodes=2)
    assert (await bench.get("ws1")).count == 2
    assert evicted not in await machines(bench, "ws1")


async def test_a_thousand_nodes_join_without_holding_up_the_answers(start: Starter) -> None:
    async with start(timings={"joinSpread": 5000}) as bench:  # one second
        clock = asyncio.get_running_loop()
        await bench.create("ws1", count=1000)
        state, slowest = "", 0.0
        while state != "Succeeded":
            began = clock.time()
            state = str((await bench.get("ws1")).provisioning_state)
            slowest = max(slowest, clock.time() - began)
        assert len(await machines(bench, "ws1")) == 1000
        assert slowest < 1.0


async def delete_machines(bench: Bench, pool: str, *names: str) -> None:
    """Deletes machines by name and waits until they are gone."""
    body = AgentPoolDeleteMachinesParameter(machine_names=list(names))
    pools = bench.azure.agent_pools
    await (await pools.begin_delete_machines(*bench.scope, pool, body)).result()


async def machines(bench: Bench, pool: str) -> list[str]:
    """Returns the names of a pool's machines."""
    listed = bench.azure.machines.list(*bench.scope, pool)
    return [str(machine.name) async for machine in listed]
