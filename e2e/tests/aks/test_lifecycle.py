"""The plain life of a pool, through the real Azure client."""

import asyncio
from collections.abc import Mapping

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.core.rest import HttpRequest
from azure.mgmt.containerservice.models import AgentPoolDeleteMachinesParameter

from sandbox.aks.testing import GPU_SIZE, Bench, Starter, status_and_code


async def test_a_pool_is_created_read_listed_and_deleted(bench: Bench) -> None:
    labels, taints = {"kaito.sh/workspace": "w"}, ["sku=gpu:NoSchedule"]
    pool = await bench.created("ws1", nodeLabels=labels, nodeTaints=taints)
    assert pool.provisioning_state == "Succeeded"
    assert (pool.count, pool.vm_size, pool.mode) == (1, GPU_SIZE, "User")
    assert (pool.node_labels, pool.node_taints) == (labels, taints)
    assert pool.type_properties_type == "VirtualMachineScaleSets"
    assert pool.os_disk_size_gb == 128
    assert await bench.names() == ["system", "ws1"]

    await bench.delete("ws1")
    assert await bench.names() == ["system"]
    with pytest.raises(ResourceNotFoundError) as caught:
        await bench.get("ws1")
    assert status_and_code(caught.value) == (404, "NotFound")
    assert "Agent Pool not found" in str(caught.value)


async def test_ids_are_as_arm_writes_them(bench: Bench) -> None:
    pool = await bench.created("ws1")
    cluster = bench.emulator.cluster
    assert pool.id == (
        f"/subscriptions/{cluster.subscription}/resourcegroups/{cluster.resource_group}"
        f"/providers/Microsoft.ContainerService/managedClusters/{cluster.name}/agentPools/ws1"
    )


async def test_deleting_an_absent_pool_succeeds_without_an_operation(bench: Bench) -> None:
    await bench.delete("never")
    (call,) = await bench.control.calls("DELETE")
    assert call["status"] == 204
    assert await bench.control.calls("OPERATION") == []


async def test_polling_is_asked_for_at_the_pace_of_the_speed(start: Starter) -> None:
    async with start(speed=2) as bench:
        operation = await accepted(bench, "ws1")
        assert operation["Retry-After"] == "5"
        assert operation["Azure-AsyncOperation"].startswith(bench.emulator.url)
    async with start(speed=5000) as bench:
        operation = await accepted(bench, "ws2")
        assert "Retry-After" not in operation  # it has no fractions
        assert operation["x-ms-retry-after-ms"] == "2"


async def test_an_update_keeps_the_pool_and_changes_its_labels_and_etag(bench: Bench) -> None:
    before = await bench.created("ws1", nodeLabels={"a": "1"})
    after = await bench.created("ws1", nodeLabels={"a": "2"})
    assert after.node_labels == {"a": "2"}
    assert after.e_tag != before.e_tag
    assert [call["status"] for call in await bench.control.calls("PUT")] == [201, 200]


async def test_a_pool_grows_and_shrinks_by_its_count(bench: Bench) -> None:
    await bench.created("ws1", count=3)
    first = [vm["node"] for vm in await bench.control.nodes()]
    assert len(set(first)) == 3

    await bench.created("ws1", count=5)
    grown = [vm["node"] for vm in await bench.control.nodes()]
    assert (grown[:3], len(set(grown))) == (first, 5)

    await bench.created("ws1", count=2)
    assert [vm["node"] for vm in await bench.control.nodes()] == first[:2]


async def test_single_machines_are_listed_and_deleted(bench: Bench) -> None:
    await bench.created("ws1", count=3)
    machines = [machine async for machine in bench.azure.machines.list(*bench.scope, "ws1")]
    names = [str(machine.name) for machine in machines]
    assert machines[1].properties is not None
    assert str(machines[1].properties.resource_id).endswith("-vmss/virtualMachines/1")

    body = AgentPoolDeleteMachinesParameter(machine_names=[names[1]])
    await (await bench.azure.agent_pools.begin_delete_machines(*bench.scope, "ws1", body)).result()
    assert [vm["node"] for vm in await bench.control.nodes()] == [names[0], names[2]]
    assert (await bench.get("ws1")).count == 2

    with pytest.raises(HttpResponseError) as caught:
        await bench.azure.agent_pools.begin_delete_machines(*bench.scope, "ws1", body)
    assert status_and_code(caught.value) == (400, "InvalidParameter")


async def test_an_upgrade_ends_with_other_machines(bench: Bench) -> None:
    await bench.created("ws1", count=2)
    old = {vm["node"] for vm in await bench.control.nodes()}
    upgrade = bench.azure.agent_pools.begin_upgrade_node_image_version
    await (await upgrade(*bench.scope, "ws1")).wait()
    new = {vm["node"] for vm in await bench.control.nodes()}
    assert (len(new), new & old) == (2, set())
    assert (await bench.get("ws1")).count == 2


async def test_an_upgrade_keeps_the_old_machine_until_its_successor_is_ready(
    bench: Bench,
) -> None:
    await bench.created("ws1")
    await bench.control.set(timings={"join": 86_400})
    await bench.azure.agent_pools.begin_upgrade_node_image_version(*bench.scope, "ws1")
    old, new = await bench.control.nodes()
    assert (old["leaving"], old["joinedAt"] is not None) == (False, True)
    assert new["joinedAt"] is None


@pytest.mark.parametrize(
    ("verb", "state"),
    [
        ("CREATE", "Creating"),
        ("UPDATE", "Updating"),
        ("SCALE", "Scaling"),
        ("DELETE", "Deleting"),
        ("DELETE_MACHINES", "DeletingMachines"),
        ("UPGRADE", "UpgradingNodeImageVersion"),
        ("ABORT", "Canceling"),
    ],
)
async def test_the_provisioning_state_tells_what_a_pool_is_in(
    bench: Bench, verb: str, state: str
) -> None:
    pools, scope = bench.azure.agent_pools, (*bench.scope, "ws1")
    if verb not in ("CREATE", "ABORT"):
        await bench.created("ws1", count=2)
    await bench.control.inject("stuck", verb="*", count=None)
    match verb:
        case "CREATE":
            await bench.create("ws1")
        case "UPDATE":
            await bench.create("ws1", count=2, nodeLabels={"a": "b"})
        case "SCALE":
            await bench.create("ws1", count=3)
        case "DELETE":
            await pools.begin_delete(*scope)
        case "DELETE_MACHINES":
            node = (await bench.control.nodes())[0]["node"]
            await pools.begin_delete_machines(
                *scope, AgentPoolDeleteMachinesParameter(machine_names=[node])
            )
        case "UPGRADE":
            await pools.begin_upgrade_node_image_version(*scope)
        case "ABORT":
            await bench.create("ws1")
            await pools.begin_abort_latest_operation(*scope)
    assert (await bench.get("ws1")).provisioning_state == state


async def test_the_cluster_lists_its_pools_and_its_node_resource_group(start: Starter) -> None:
    subnet = (
        "/subscriptions/s/resourceGroups/r/providers/Microsoft.Network/virtualNetworks/v/subnets/n"
    )
    async with start(subnet=subnet) as bench:
        await bench.created("ws1", vnetSubnetID=subnet)
        cluster = await bench.azure.managed_clusters.get(*bench.scope)
        assert cluster.node_resource_group == "MC_gpu-workspaces_sandbox_eastus"
        profiles = {str(pool.name): pool for pool in cluster.agent_pool_profiles or []}
        assert set(profiles) == {"system", "ws1"}
        assert profiles["system"].vnet_subnet_id == subnet


async def test_long_lists_come_in_pages(start: Starter) -> None:
    async with start(pageSize=2) as bench:
        for number in range(4):
            await bench.create(f"ws{number}")
        assert await bench.names() == ["system", "ws0", "ws1", "ws2", "ws3"]
        assert len(await bench.control.calls("LIST")) == 3


async def test_a_continuation_token_resumes_in_a_second_client(start: Starter) -> None:
    async with start(speed=500) as bench:
        token = (await bench.create("ws1")).continuation_token()
        poller = await bench.resumed("ws1", token)
        assert (await poller.result()).provisioning_state == "Succeeded"
        assert len(await bench.control.calls("PUT")) == 1


async def test_an_abort_cancels_a_create_and_leaves_no_machine(start: Starter) -> None:
    async with start(timings={"join": 1e4}) as bench:
        poller = await bench.create("ws1")
        await (
            await bench.azure.agent_pools.begin_abort_latest_operation(*bench.scope, "ws1")
        ).result()
        assert (await bench.get("ws1")).provisioning_state == "Canceled"
        with pytest.raises(HttpResponseError) as caught:
            await poller.result()
        assert status_and_code(caught.value) == (200, "Canceled")
        await bench.settled(nodes=0)


async def test_an_abort_that_comes_too_late_is_refused(bench: Bench) -> None:
    await bench.created("ws1")
    with pytest.raises(HttpResponseError) as caught:
        await bench.azure.agent_pools.begin_abort_latest_operation(*bench.scope, "ws1")
    assert status_and_code(caught.value) == (400, "OperationNotAllowed")


async def test_an_abort_that_fails_lets_the_operation_go_on(start: Starter) -> None:
    async with start(timings={"join": 5000}) as bench:  # one second
        poller = await bench.create("ws1")
        await bench.control.inject("fail", verb="ABORT", error="internal-late")
        abort = await bench.azure.agent_pools.begin_abort_latest_operation(*bench.scope, "ws1")
        with pytest.raises(HttpResponseError):
            await abort.result()
        assert (await poller.result()).provisioning_state == "Succeeded"


async def test_many_pools_are_created_at_once(bench: Bench) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(40):
            group.create_task(bench.created(f"ws{number}"))
    assert len(await bench.names()) == 41
    assert len(set(await bench.control.created_pools())) == 40


async def test_a_single_machine_is_read_by_its_name(bench: Bench) -> None:
    await bench.created("ws1", availabilityZones=["1"])
    (vm,) = await bench.control.nodes()
    machine = await bench.azure.machines.get(*bench.scope, "ws1", vm["node"])
    assert machine.zones == ["1"]
    with pytest.raises(ResourceNotFoundError) as caught:
        await bench.azure.machines.get(*bench.scope, "ws1", "aks-other-vmss000000")
    assert "Machine not found" in str(caught.value)


async def test_the_result_of_an_operation_has_an_address_of_its_own(bench: Bench) -> None:
    await bench.created("ws1")
    await bench.control.set(timings={"remove": 5000})  # one second
    url = f"{bench.emulator.url}{bench.emulator.cluster.id}/agentPools/ws1?api-version=2026-08-01"
    accepted = await bench.azure.send_request(HttpRequest("DELETE", url))
    assert accepted.status_code == 202
    result = HttpRequest("GET", accepted.headers["Location"])
    assert (await bench.azure.send_request(result)).status_code == 202
    await bench.idle()
    assert (await bench.azure.send_request(result)).status_code == 204


async def accepted(bench: Bench, name: str) -> Mapping[str, str]:
    """Sends a PUT as it is on the wire; returns the headers of the answer."""
    url = f"{bench.emulator.url}{bench.emulator.cluster.id}/agentPools/{name}"
    body = {"properties": {"vmSize": GPU_SIZE}}
    request = HttpRequest("PUT", f"{url}?api-version=2026-08-01", json=body)
    answer = await bench.azure.send_request(request)
    assert answer.status_code == 201
    return answer.headers
