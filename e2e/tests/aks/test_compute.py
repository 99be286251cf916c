"""What a client learns from Microsoft.Compute before it asks for a pool, through the real client."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.mgmt.compute.aio import ComputeManagementClient

from sandbox.aks.testing import Bench, Starter, status_and_code

T4 = "Standard_NC4as_T4_v3"
FAMILY = "Standard NCASv3_T4 Family"


async def test_usages_count_what_the_pools_use_against_each_quota(bench: Bench) -> None:
    await bench.control.set_quota(families={"standardncasv3_t4family": 16}, regional=100, spot=3)
    await bench.created("ws1", vmSize=T4, count=3)
    usages = await usages_of(bench)
    assert usages[FAMILY] == (12, 16)
    assert usages["cores"] == (12, 100)
    assert usages["lowPriorityCores"] == (0, 3)
    assert usages["standardNCSv3Family"] == (0, 1_000_000)


async def test_what_fits_the_usages_is_not_refused_for_quota(bench: Bench) -> None:
    await bench.control.set_quota(families={FAMILY: 12})
    await bench.created("ws1", vmSize=T4, count=1)
    used, limit = (await usages_of(bench))[FAMILY]
    fitting = (limit - used) // 4
    await bench.created("ws1", vmSize=T4, count=1 + fitting)
    await bench.refused("ws1", vmSize=T4, count=2 + fitting)


async def test_usages_of_another_region_are_not_there(bench: Bench) -> None:
    async with compute(bench) as client:
        with pytest.raises(ResourceNotFoundError) as caught:
            [usage async for usage in client.usage.list("mars")]
    assert status_and_code(caught.value) == (404, "NoRegisteredProviderFound")


async def test_sizes_say_what_they_are_and_where(bench: Bench) -> None:
    sku = (await skus_of(bench))["Standard_NC24ads_A100_v4"]
    assert (sku.resource_type, sku.family) == ("virtualMachines", "StandardNCADSA100v4Family")
    assert (sku.tier, sku.size) == ("Standard", "NC24ads_A100_v4")
    (where,) = sku.location_info
    assert (where.location, where.zones) == ("eastus", ["2"])
    capabilities = {item.name: item.value for item in sku.capabilities}
    assert capabilities["vCPUs"] == "24"
    assert capabilities["GPUs"] == "1"
    assert sku.restrictions == []


async def test_a_restricted_size_says_so_and_is_refused(start: Starter) -> None:
    async with start(restricted=[T4.upper()]) as bench:
        (restriction,) = (await skus_of(bench))[T4].restrictions
        assert (restriction.type, restriction.reason_code) == (
            "Location",
            "NotAvailableForSubscription",
        )
        assert restriction.restriction_info.locations == ["eastus"]
        assert "is not allowed in your subscription" in str(await bench.refused("a", vmSize=T4))


async def test_a_size_that_is_restricted_in_a_zone_says_so_and_is_refused_there(
    start: Starter,
) -> None:
    async with start(restrictedZones={T4: ["1"]}) as bench:
        (restriction,) = (await skus_of(bench))[T4].restrictions
        assert (restriction.type, restriction.restriction_info.zones) == ("Zone", ["1"])
        error = await bench.refused("ws1", vmSize=T4, availabilityZones=["1"])
        assert status_and_code(error) == (400, "AvailabilityZoneNotSupported")
        assert "are 2, 3" in str(error)
        await bench.created("ws1", vmSize=T4, availabilityZones=["2"])


async def test_sizes_can_be_asked_for_by_region_alone(bench: Bench) -> None:
    assert T4 in await skus_of(bench, "location eq 'eastus'")
    assert await skus_of(bench, "location eq 'westus'") == {}
    with pytest.raises(HttpResponseError) as caught:
        await skus_of(bench, "zone eq '1'")
    assert status_and_code(caught.value) == (400, "InvalidParameter")


async def test_the_lists_fail_when_a_test_wants_it_and_take_no_token_of_aks(
    start: Starter,
) -> None:
    async with start(throttle=True, speed=0.001) as bench:
        for _ in range(65):
            await usages_of(bench)
        await bench.names()
        await bench.control.inject("error", verb="USAGES", error="forbidden")
        with pytest.raises(HttpResponseError) as caught:
            await usages_of(bench)
        assert status_and_code(caught.value) == (403, "AuthorizationFailed")


async def usages_of(bench: Bench) -> dict[str, tuple[int, int]]:
    """Returns what is used, and the limit, by the name of the quota."""
    async with compute(bench) as client:
        return {
            str(usage.name.value): (usage.current_value, usage.limit)
            async for usage in client.usage.list("eastus")
        }


async def skus_of(bench: Bench, text: str | None = None) -> dict[str, Any]:
    """Returns the VM sizes by name."""
    async with compute(bench) as client:
        return {str(sku.name): sku async for sku in client.resource_skus.list(filter=text)}


@contextlib.asynccontextmanager
async def compute(bench: Bench) -> AsyncIterator[ComputeManagementClient]:
    """The Compute client with the credential of the other one."""
    emulator = bench.emulator
    async with ComputeManagementClient(
        bench.azure._config.credential,
        emulator.cluster.subscription,
        base_url=emulator.url,
        credential_scopes=[f"{emulator.url}/.default"],
        connection_verify=str(emulator.ca),
        retry_total=0,
    ) as client:
        yield client
