"""What AKS refuses, and with which words, as the real Azure client reports it."""

import pytest
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceModifiedError
from azure.core.rest import HttpRequest

from sandbox.aks.testing import Bench, Starter, status_and_code


@pytest.mark.parametrize("name", ["1pool", "Pool", "with-dash", "abcdefghijklm", "p_1"])
async def test_a_pool_name_that_aks_does_not_allow_is_refused(bench: Bench, name: str) -> None:
    assert status_and_code(await bench.refused(name)) == (400, "InvalidParameter")
    assert await bench.names() == ["system"]


@pytest.mark.parametrize(
    ("properties", "named"),
    [
        ({"count": -1}, "count"),
        ({"count": 1001}, "count"),
        ({"count": "1"}, "count"),
        ({"mode": "Users"}, "mode"),
        ({"type": "VirtualMachines"}, "type"),
        ({"osDiskSizeGB": 2049}, "osDiskSizeGB"),
        ({"maxPods": 5}, "maxPods"),
        ({"nodeLabels": {"kubernetes.azure.com/x": "y"}}, "nodeLabels"),
        ({"nodeLabels": {"a b": "y"}}, "nodeLabels"),
        ({"nodeLabels": {"a": "2026-11-24T08:00:00Z"}}, "nodeLabels"),
        ({"nodeTaints": ["sku=gpu"]}, "nodeTaints"),
        ({"nodeTaints": ["sku=gpu:Never"]}, "nodeTaints"),
        ({"nodeTaints": ["sku=gpu:NoSchedule", "sku=x:NoSchedule"]}, "nodeTaints"),
        ({"mode": "System", "scaleSetPriority": "Spot"}, "scaleSetPriority"),
        ({"vmSize": ""}, "vmSize"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_property_that_does_not_fit_is_refused_by_name(
    bench: Bench, properties: dict[str, object], named: str
) -> None:
    error = await bench.refused("ws1", **properties)
    assert status_and_code(error) == (400, "InvalidParameter")
    assert f"agentPoolProfile.{named} " in str(error)


async def test_a_taint_without_a_value_is_accepted(bench: Bench) -> None:
    pool = await bench.created("ws1", nodeTaints=["dedicated:NoExecute", "sku=:NoSchedule"])
    assert pool.node_taints == ["dedicated:NoExecute", "sku=:NoSchedule"]


async def test_an_unknown_size_is_not_allowed_in_the_subscription(bench: Bench) -> None:
    error = await bench.refused("ws1", vmSize="Standard_NC1000_v9")
    assert status_and_code(error) == (400, "BadRequest")
    assert "is not allowed in your subscription in location 'eastus'" in str(error)


async def test_a_restricted_or_retired_size_is_refused_when_asked_for(start: Starter) -> None:
    async with start(restricted=["standard_nc4as_t4_v3"], refuseRetired=True) as bench:
        for size in ("Standard_NC4as_T4_v3", "Standard_NC6s_v3"):
            assert "is not allowed" in str(await bench.refused("ws1", vmSize=size))
        await bench.created("ws1", vmSize="Standard_NC8as_T4_v3")


async def test_a_size_is_only_in_the_zones_of_its_region(bench: Bench) -> None:
    size = "Standard_NC24ads_A100_v4"
    error = await bench.refused("ws1", vmSize=size, availabilityZones=["1", "2"])
    assert status_and_code(error) == (400, "AvailabilityZoneNotSupported")
    await bench.created("ws1", vmSize=size, availabilityZones=["2"])
    (vm,) = await bench.control.nodes()
    assert vm["spec"]["zone"] == "eastus-2"


async def test_vms_are_spread_over_the_zones(bench: Bench) -> None:
    await bench.created("ws1", count=4, availabilityZones=["1", "2"])
    assert [vm["zone"] for vm in await bench.control.nodes()] == ["1", "2", "1", "2"]


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ({}, {"vmSize": "Standard_NC12s_v3"}, "vmSize"),
        ({}, {"osDiskSizeGB": 512}, "osDiskSizeGB"),
        ({"availabilityZones": ["1"]}, {"availabilityZones": ["2"]}, "availabilityZones"),
        ({}, {"scaleSetPriority": "Spot"}, "scaleSetPriority"),
        ({"scaleSetPriority": "Spot"}, {"nodeTaints": ["sku=gpu:NoSchedule"]}, "nodeTaints"),
    ],
    ids=["size", "disk", "zones", "priority", "spot-taints"],
)
async def test_what_is_fixed_at_creation_cannot_change(
    bench: Bench, before: dict[str, object], after: dict[str, object], named: str
) -> None:
    await bench.created("ws1", **before)
    error = await bench.refused("ws1", **after)
    assert status_and_code(error) == (400, "PropertyChangeNotAllowed")
    assert f"properties.{named}" in str(error)


async def test_the_cluster_holds_a_hundred_pools_its_own_included(bench: Bench) -> None:
    for number in range(99):
        await bench.create(f"ws{number}", count=0)
    error = await bench.refused("onemore")
    assert status_and_code(error) == (400, "BadRequest")
    assert "exceeds the maximum allowed 100" in str(error)
    await bench.created("ws5", count=1)  # changing one of them is still possible


async def test_the_last_system_pool_cannot_be_deleted(bench: Bench) -> None:
    with pytest.raises(HttpResponseError) as caught:
        await bench.delete("system")
    assert status_and_code(caught.value) == (400, "InvalidParameter")


async def test_all_pools_share_the_subnet_of_the_system_pool(start: Starter) -> None:
    async with start(subnet="/subscriptions/s/subnets/n") as bench:
        assert "one virtual network" in str(await bench.refused("ws1"))


async def test_a_pool_in_an_operation_takes_no_other_one(bench: Bench) -> None:
    await bench.control.inject("stuck")
    await bench.create("ws1")
    error = await bench.refused("ws1")
    assert isinstance(error, ResourceExistsError)
    assert status_and_code(error) == (409, "OperationNotAllowed")
    assert "there's an in progress create node pool operation" in str(error)
    with pytest.raises(ResourceExistsError):
        await bench.delete("ws1")
    await bench.created("ws2")  # another pool is free to go


async def test_a_delete_can_be_let_to_preempt_a_create(start: Starter) -> None:
    async with start(deletePreempts=True, timings={"join": 86_400}) as bench:
        poller = await bench.create("ws1")
        await bench.delete("ws1")
        assert await bench.names() == ["system"]
        with pytest.raises(HttpResponseError) as caught:
            await poller.result()
        assert status_and_code(caught.value) == (200, "AKSOperationPreemptedByDelete")
        assert await bench.control.nodes() == []


async def test_a_busy_cluster_refuses_every_write_and_answers_every_read(bench: Bench) -> None:
    await bench.created("ws1")
    await bench.control.set(cluster_state="Updating")
    assert status_and_code(await bench.refused("ws2")) == (409, "OperationNotAllowed")
    with pytest.raises(ResourceExistsError):
        await bench.delete("ws1")
    assert await bench.names() == ["system", "ws1"]
    await bench.control.set(cluster_state="Succeeded")
    await bench.delete("ws1")


async def test_if_none_match_creates_and_never_overwrites(bench: Bench) -> None:
    await (await bench.create("ws1", if_missing=True, nodeLabels={"owner": "a"})).result()
    error = await bench.refused("ws1", if_missing=True, nodeLabels={"owner": "b"})
    assert isinstance(error, ResourceExistsError)
    assert status_and_code(error) == (412, "PreconditionFailed")
    assert (await bench.get("ws1")).node_labels == {"owner": "a"}


async def test_if_match_writes_over_the_version_that_was_read_and_no_other(bench: Bench) -> None:
    read = await bench.created("ws1")
    await (await bench.create("ws1", etag=str(read.e_tag), nodeLabels={"a": "b"})).result()
    error = await bench.refused("ws1", etag=str(read.e_tag), nodeLabels={"a": "c"})
    assert isinstance(error, ResourceModifiedError)
    assert status_and_code(error) == (412, "PreconditionFailed")
    error = await bench.refused("absent", etag=str(read.e_tag))
    assert "Resource not found but ETag header is provided" in str(error)


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("PUT", "{pools}/ws1?api-version=2026-08-01", "[]", (400, "InvalidRequestContent")),
        ("PUT", "{pools}/ws1?api-version=2026-08-01", "{", (400, "InvalidRequestContent")),
        ("PUT", "{pools}/ws1?api-version=2026-08-01", "{}", (400, "InvalidRequestContent")),
        ("GET", "{pools}/ws1", None, (400, "MissingApiVersionParameter")),
        ("GET", "{pools}?api-version=latest", None, (400, "InvalidApiVersionParameter")),
        ("GET", "{pools}/ws1/nothing?api-version=2026-08-01", None, (404, "InvalidResourceType")),
        ("PATCH", "{pools}/ws1?api-version=2026-08-01", "{}", (404, "InvalidResourceType")),
    ],
)
async def test_a_request_that_no_api_has_is_answered_as_arm_does(
    bench: Bench, method: str, path: str, body: str | None, expected: tuple[int, str]
) -> None:
    url = bench.emulator.url + path.format(pools=f"{bench.emulator.cluster.id}/agentPools")
    answer = await bench.azure.send_request(HttpRequest(method, url, content=body))
    assert (answer.status_code, answer.json()["error"]["code"]) == expected


async def test_paths_are_read_without_regard_to_case(bench: Bench) -> None:
    await bench.created("ws1")
    url = (await bench.get("ws1")).id
    assert url is not None
    request = HttpRequest("GET", f"{bench.emulator.url}{url.upper()}?api-version=2026-08-01")
    answer = await bench.azure.send_request(request)
    assert answer.status_code == 404  # names of pools do count
    lower = url.replace("resourcegroups", "ResourceGroups").replace("agentPools", "agentpools")
    request = HttpRequest("GET", f"{bench.emulator.url}{lower}?api-version=2026-08-01")
    answer = await bench.azure.send_request(request)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("scope", "code"),
    [
        (("other-group", "sandbox"), "ResourceGroupNotFound"),
        (("gpu-workspaces", "other"), "ResourceNotFound"),
    ],
)
async def test_a_strange_cluster_or_group_is_not_found(
    bench: Bench, scope: tuple[str, str], code: str
) -> None:
    with pytest.raises(HttpResponseError) as caught:
        await bench.azure.agent_pools.get(*scope, "ws1")
    assert status_and_code(caught.value) == (404, code)
