"""Quota, capacity and the throttle."""

import pytest
from azure.core.exceptions import HttpResponseError

from sandbox.aks.buckets import OTHER, PUT_POOL, Bucket, Buckets
from sandbox.aks.testing import Bench, Starter, retry_after, status_and_code

T4 = "Standard_NC4as_T4_v3"
FAMILY = "Standard NCASv3_T4 Family"


async def test_a_family_over_its_quota_is_refused_at_once(bench: Bench) -> None:
    await bench.control.set_quota(families={"standardncasv3_t4family": 8})
    await bench.created("ws1", vmSize=T4, count=2)
    error = await bench.refused("ws2", vmSize=T4)
    assert status_and_code(error) == (400, "ErrCode_InsufficientVCPUQuota")
    assert "requested 4, remaining 0 for family" in str(error)
    await bench.created("ws3", vmSize="Standard_NC6s_v3")  # of another family

    await bench.delete("ws1")
    await bench.created("ws2", vmSize=T4)


async def test_scaling_counts_only_what_it_adds(bench: Bench) -> None:
    await bench.control.set_quota(families={FAMILY: 12})
    await bench.created("ws1", vmSize=T4, count=2)
    await bench.created("ws1", vmSize=T4, count=3)
    error = await bench.refused("ws1", vmSize=T4, count=4)
    assert status_and_code(error) == (400, "ErrCode_InsufficientVCPUQuota")
    assert (await bench.get("ws1")).count == 3


async def test_the_region_has_a_quota_of_its_own(bench: Bench) -> None:
    await bench.control.set_quota(regional=8)
    await bench.created("ws1", vmSize="Standard_NC6s_v3")
    error = await bench.refused("ws2", vmSize=T4)
    assert "left regional vcpu quota 2, requested quota 4" in str(error)


@pytest.mark.parametrize(
    ("quota", "properties", "words"),
    [
        ({"families": {FAMILY: 0}, "checked": "operation"}, {}, f"approved {FAMILY} Cores quota"),
        ({"regional": 3, "checked": "operation"}, {}, "approved Total Regional Cores quota"),
        ({"spot": 3}, {"scaleSetPriority": "Spot"}, "approved LowPriorityCores quota"),
    ],
    ids=["family", "regional", "spot"],
)
async def test_an_excess_that_compute_finds_fails_the_operation(
    bench: Bench, quota: dict[str, object], properties: dict[str, object], words: str
) -> None:
    await bench.control.set_quota(**quota)
    with pytest.raises(HttpResponseError) as caught:
        await bench.created("ws1", vmSize=T4, **properties)
    assert status_and_code(caught.value) == (200, "QuotaExceeded")
    pool = await bench.get("ws1")
    assert pool.provisioning_state == "Failed"
    assert pool.status is not None
    assert pool.status.provisioning_error is not None
    assert words in str(pool.status.provisioning_error.message)
    await bench.settled(nodes=0)


async def test_a_size_that_is_sold_out_in_a_zone_goes_to_the_next(bench: Bench) -> None:
    await bench.control.set(sold_out=[{"sku": T4, "zones": ["1"]}])
    await bench.created("ws1", vmSize=T4, count=2, availabilityZones=["1", "2"])
    assert [vm["zone"] for vm in await bench.control.nodes()] == ["2", "2"]
    await bench.created("ws2", vmSize=T4)  # without zones Azure chooses
    with pytest.raises(HttpResponseError) as caught:
        await bench.created("ws3", vmSize=T4, availabilityZones=["1"])
    assert "ZonalAllocationFailed" in str(caught.value)


async def test_a_size_that_is_sold_out_in_the_region_fails_late(bench: Bench) -> None:
    await bench.control.set(sold_out=[{"sku": T4}])
    with pytest.raises(HttpResponseError) as caught:
        await bench.created("ws1", vmSize=T4)
    assert status_and_code(caught.value) == (200, "ReconcileVMSSAgentPoolFailed")
    assert "AllocationFailed" in str(caught.value)
    await bench.settled(nodes=0)

    await bench.control.set(sold_out=[])
    assert (await bench.created("ws1", vmSize=T4)).provisioning_state == "Succeeded"
    await bench.settled(nodes=1)


async def test_a_pool_gets_as_many_machines_as_azure_has_and_fails_for_the_rest(
    bench: Bench,
) -> None:
    await bench.control.set(sold_out=[{"sku": T4, "beyond": 3}])
    await bench.created("ws1", vmSize=T4)
    with pytest.raises(HttpResponseError) as caught:
        await bench.created("ws2", vmSize=T4, count=5)
    assert status_and_code(caught.value) == (200, "ReconcileVMSSAgentPoolFailed")
    pool = await bench.get("ws2")
    assert (pool.provisioning_state, pool.count) == ("Failed", 5)  # what was asked for
    assert pool.status is not None
    assert "AllocationFailed" in str(pool.status.provisioning_error)
    await bench.settled(nodes=3, joined=3, gpus=3)  # the one of ws1 and two of ws2

    shrunk = await bench.created("ws2", vmSize=T4, count=2)
    assert shrunk.provisioning_state == "Succeeded"
    assert shrunk.status is None or shrunk.status.provisioning_error is None
    await bench.settled(nodes=3)


async def test_what_was_delivered_joins_even_after_its_pool_has_failed(start: Starter) -> None:
    async with start(timings={"operation": 100, "join": 2500}) as bench:  # half a second
        await bench.control.set(sold_out=[{"sku": T4, "beyond": 2}])
        with pytest.raises(HttpResponseError):
            await bench.created("ws1", vmSize=T4, count=3)
        await bench.settled(nodes=2, joined=2)


async def test_a_scale_beyond_what_azure_has_keeps_what_there_was(bench: Bench) -> None:
    await bench.created("ws1", vmSize=T4, count=2)
    first = [vm["node"] for vm in await bench.control.nodes()]
    await bench.control.set(sold_out=[{"sku": T4, "beyond": 3}])
    with pytest.raises(HttpResponseError):
        await bench.created("ws1", vmSize=T4, count=6)
    vms = await bench.settled(nodes=3, joined=3)
    assert [vm["node"] for vm in vms][:2] == first

    await bench.control.set(sold_out=[])
    await bench.created("ws1", vmSize=T4, count=6)  # the same body again asks for the rest
    await bench.settled(nodes=6, joined=6)


async def test_what_a_zone_lacks_the_others_give(bench: Bench) -> None:
    await bench.control.set(
        sold_out=[{"sku": T4, "zones": ["1"], "beyond": 1}, {"sku": T4, "beyond": 4}]
    )
    with pytest.raises(HttpResponseError):
        await bench.created("ws1", vmSize=T4, count=5, availabilityZones=["1", "2"])
    zones = [vm["zone"] for vm in await bench.control.nodes()]
    assert (zones.count("1"), zones.count("2")) == (1, 3)


async def test_a_machine_that_goes_makes_room_for_another(bench: Bench) -> None:
    await bench.control.set(sold_out=[{"sku": T4, "beyond": 1}])
    await bench.created("ws1", vmSize=T4)
    with pytest.raises(HttpResponseError):
        await bench.created("ws2", vmSize=T4)
    await bench.delete("ws1")
    assert (await bench.created("ws2", vmSize=T4)).provisioning_state == "Succeeded"


async def test_growing_pools_stay_balanced_over_their_zones(bench: Bench) -> None:
    await bench.created("ws1", vmSize=T4, count=1, availabilityZones=["1", "2"])
    await bench.created("ws1", vmSize=T4, count=4, availabilityZones=["1", "2"])
    zones = [vm["zone"] for vm in await bench.control.nodes()]
    assert (zones.count("1"), zones.count("2")) == (2, 2)


async def test_the_cluster_holds_so_many_nodes_and_no_more(bench: Bench) -> None:
    await bench.control.set(max_nodes=5)
    await bench.created("ws1", count=3)
    error = await bench.refused("ws2", count=2)  # the system pool has one
    assert status_and_code(error) == (400, "ValidationError")
    assert "upper limit node count is 6 which exceeds the limit 5" in str(error)
    assert status_and_code(await bench.refused("ws1", count=5)) == (400, "ValidationError")
    await bench.created("ws1", count=4)
    await bench.control.set(max_nodes=2)
    await bench.created("ws1", count=3)  # the way down is open


async def test_the_quota_stops_a_scale_late_and_keeps_what_there_was(bench: Bench) -> None:
    await bench.control.set_quota(families={FAMILY: 8}, checked="operation")
    await bench.created("ws1", vmSize=T4, count=2)
    with pytest.raises(HttpResponseError) as caught:
        await bench.created("ws1", vmSize=T4, count=4)
    assert "Current Limit: 8, Current Usage: 8, Additional Required: 8" in str(caught.value)
    await bench.settled(nodes=2)
    assert (await bench.get("ws1")).provisioning_state == "Failed"


async def test_the_twenty_first_put_in_a_row_is_throttled(start: Starter) -> None:
    async with start(speed=1, throttle=True) as bench:
        for number in range(20):
            await bench.create(f"ws{number}", count=0)
        error = await bench.refused("ws20")
        assert status_and_code(error) == (429, "Throttled")
        assert 58 <= int(retry_after(error) or 0) <= 60
        assert "PutAgentPoolHandler.PUT" in str(error)
        assert "ws20" not in await bench.names()

        await bench.control.set(throttle=False)
        await bench.create("ws20", count=0)


async def test_a_throttle_that_is_switched_on_begins_with_full_buckets(start: Starter) -> None:
    async with start(speed=1, throttle=True) as bench:
        for number in range(20):
            await bench.create(f"ws{number}", count=0)
        await bench.refused("ws20")
        await bench.control.set(speed=2)
        await bench.refused("ws20")  # another change of settings fills none
        await bench.control.set(throttle=False)
        await bench.control.set(throttle=True)
        await bench.create("ws20", count=0)


async def test_reads_have_a_bucket_of_their_own(start: Starter) -> None:
    async with start(speed=1, throttle=True) as bench:
        await bench.control.set(speed=0.001)  # hardly any refill during the test
        for _ in range(60):
            await bench.names()
        with pytest.raises(HttpResponseError) as caught:
            await bench.names()
        assert status_and_code(caught.value) == (429, "Throttled")
        await bench.create("ws1", count=0)


def test_a_bucket_refills_with_emulated_time() -> None:
    buckets = Buckets({PUT_POOL: Bucket(tokens=0, at=1000.0)})
    assert buckets.take(PUT_POOL, 1000.0, speed=1) == 60
    assert buckets.take(PUT_POOL, 1059.0, speed=1) == 1
    assert buckets.take(PUT_POOL, 1060.0, speed=1) is None
    assert buckets.take(PUT_POOL, 1061.0, speed=60) is None
    assert buckets.level(PUT_POOL, 9e9, speed=1) == 20
    assert buckets.level(OTHER, 0.0, speed=1) == 60
