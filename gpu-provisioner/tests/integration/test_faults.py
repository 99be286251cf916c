"""What Azure can do wrong, and that a claim comes through it with one pool or a clear reason."""

import asyncio
import time

import pytest
from provisioner_world.bench import SIZE, Bench

from gpu_provisioner.azure.courses import LEGACY_SIZE_SENTENCE


async def ends_well(bench: Bench, name: str, seconds: float = 30.0) -> None:
    """One pool was made, the claim has its node, and nothing is left in the end."""
    await bench.becomes(name, seconds=seconds)
    assert (await bench.control.created_pools()).count(name) == 1
    assert list(await bench.control.pools()) == [name]
    status, reason, message = await bench.condition(name, "Launched")
    assert (status, reason, message) == ("True", "", "")
    await bench.delete(name)
    await bench.is_gone(name)


@pytest.mark.parametrize("effect", ["cut", "cut-before"])
async def test_49_a_cut_connection_leaves_one_pool_and_no_error(bench: Bench, effect: str) -> None:
    await bench.control.inject(effect, verb="PUT")
    name = await bench.create()
    await ends_well(bench, name)
    assert not [each for each in await bench.events(name) if each["type"] == "Warning"]


async def test_a_request_that_is_never_answered_is_looked_up(bench: Bench) -> None:
    await bench.control.inject("hang", verb="PUT")
    name = await bench.create()
    await ends_well(bench, name)


async def test_hung_requests_of_some_do_not_hold_up_the_others(bench: Bench) -> None:
    await bench.control.inject("hang", verb="PUT", pool="hung*", count=None)
    for number in range(12):
        await bench.create(name=f"hung{number}")
    await asyncio.sleep(0.2)
    name, begun = await bench.create(), time.monotonic()
    await bench.tells(name, "PoolCreating")
    assert time.monotonic() - begun < 1.5
    await bench.becomes(name)


@pytest.mark.parametrize("status", [500, 503])
async def test_passing_faults_are_tried_again_and_told_to_nobody(bench: Bench, status: int) -> None:
    await bench.control.inject("error", verb="PUT", error="internal", status=status, count=2)
    name = await bench.create()
    await ends_well(bench, name)
    assert not [each for each in await bench.events(name) if each["type"] == "Warning"]


async def test_24_a_running_operation_is_no_failure(bench: Bench) -> None:
    await bench.control.inject("error", verb="PUT", error="in-progress")
    name = await bench.create()
    await bench.tells(name, "OperationInProgress")
    assert not await bench.events(name)
    await ends_well(bench, name)


async def test_23_a_throttle_holds_back_every_claim(bench: Bench) -> None:
    await bench.control.inject("error", verb="PUT", error="throttled", retryAfter=3)
    first = await bench.create()
    await bench.tells(first, "Throttled")
    begun = time.monotonic()
    second = await bench.create()
    await bench.tells(second, "Throttled")
    await bench.becomes(second, seconds=40)
    assert time.monotonic() - begun > 3
    await bench.becomes(first, seconds=40)
    assert await bench.puts(first) == [429, 201]
    assert await bench.puts(second) == [201]


async def test_21_a_spent_quota_is_told_at_once_with_figures_and_not_asked_again(
    bench: Bench,
) -> None:
    await bench.control.set_quota(families={"standardNCSv3Family": 4})
    name = await bench.create()
    begun = time.monotonic()
    message = await bench.tells(name, "QuotaExceeded")
    assert time.monotonic() - begun < 1.0
    assert "standardNCSv3Family" in message
    assert "Raise the quota" in message
    assert "Next try after" in message
    await asyncio.sleep(2)
    assert await bench.puts(name) == [400]

    async def warnings() -> list[str]:
        return [each["reason"] for each in await bench.events(name) if each["type"] == "Warning"]

    assert await warnings() == ["QuotaExceeded"]
    # A claim that waits for quota can be given up at once.
    await bench.delete(name)
    await bench.is_gone(name, seconds=10)


async def test_21_a_restart_does_not_shorten_the_wait(bench: Bench) -> None:
    await bench.control.set_quota(families={"standardNCSv3Family": 4})
    name = await bench.create()
    await bench.tells(name, "QuotaExceeded")
    bench.provisioner.kill()
    bench.provisioner.start()
    await asyncio.sleep(2)
    assert await bench.puts(name) == [400]
    status, _, message = await bench.condition(name, "Launched")
    assert status == "False"
    assert message.count("Next try after") == 1


async def test_21_a_nodeclaim_that_waits_for_quota_stays_unknown(bench: Bench) -> None:
    await bench.control.set_quota(families={"standardNCSv3Family": 4})
    name = await bench.create("nodeclaim")
    await bench.tells(name, "QuotaExceeded", kind="nodeclaim")
    assert (await bench.condition(name, "Launched", "nodeclaim"))[0] == "Unknown"


async def test_37_a_pool_that_fails_is_told_and_not_left(bench: Bench) -> None:
    await bench.control.inject("fail", verb="PUT", error="capacity-regional", seconds=10)
    name = await bench.create()
    message = await bench.tells(name, "InsufficientCapacity")
    assert "choose another instanceType" in message
    await bench.phase(name, "")
    assert await bench.puts(name) == [201]
    await bench.delete(name)
    await bench.is_gone(name)


async def test_37_a_pool_that_fails_by_a_passing_fault_is_made_again(bench: Bench) -> None:
    await bench.control.inject("fail", verb="PUT", error="internal-late", seconds=5)
    name = await bench.create()
    await bench.becomes(name)
    assert await bench.puts(name) == [201, 201]


async def test_22_a_size_that_is_not_offered_is_told_for_good(bench: Bench) -> None:
    await bench.control.set(restricted=[SIZE])
    name = await bench.create("nodeclaim")
    message = await bench.tells(name, "InstanceTypeUnavailable", kind="nodeclaim")
    assert LEGACY_SIZE_SENTENCE in message
    assert "is not allowed in your subscription in location" in message
    assert (await bench.condition(name, "Launched", "nodeclaim"))[0] == "False"
    bench.provisioner.kill()
    bench.provisioner.start()
    await asyncio.sleep(1.5)
    assert await bench.puts(name) == [400]


async def test_25_wrong_credentials_are_told_and_recovered_from(bench: Bench) -> None:
    await bench.control.inject("error", verb="TOKEN", error="aad-federation", count=None)
    bench.provisioner.start()
    name = await bench.create()
    message = await bench.tells(name, "AuthorizationFailed")
    assert "federated credential" in message
    ready = bench.provisioner.read("/readyz")
    assert (ready.status_code, "could not sign in" in ready.text) == (200, True)
    await bench.control.clear_faults()
    await ends_well(bench, name, seconds=60)
    assert bench.provisioner.read("/readyz").text == "ok"


async def test_25_a_token_that_was_revoked_is_replaced_at_once(bench: Bench) -> None:
    first = await bench.create()
    await bench.becomes(first)
    await bench.control.revoke_tokens()
    name, begun = await bench.create(), time.monotonic()
    await bench.becomes(name)
    assert time.monotonic() - begun < 10


async def test_a_missing_permission_is_told(bench: Bench) -> None:
    await bench.control.inject("error", verb="PUT", error="forbidden", count=None)
    name = await bench.create()
    assert "missing role" in await bench.tells(name, "AuthorizationFailed")
    await bench.delete(name)
    await bench.is_gone(name)


async def test_26_a_cluster_that_azure_does_not_know_deletes_nothing(bench: Bench) -> None:
    name = await bench.create()
    await bench.becomes(name)
    for verb in ("GET", "LIST", "DELETE"):
        await bench.control.inject("error", verb=verb, error="cluster-not-found", count=None)
    await bench.delete(name)
    await bench.tells(name, "ClusterNotFound", "InstanceTerminating")
    assert name in await bench.control.pools()
    assert await bench.claim(name) is not None
    await bench.control.clear_faults()
    await bench.is_gone(name, seconds=60)


async def test_41_the_emulator_s_restart_in_the_middle_of_a_creation_loses_nothing(
    bench: Bench,
) -> None:
    await bench.control.set(timings={"join": 30})
    name = await bench.create()
    await bench.phase(name, "Creating")
    bench.azure.kill()
    await asyncio.sleep(1)
    bench.azure.start()
    await ends_well(bench, name, seconds=60)


async def test_another_s_pool_of_the_name_is_neither_changed_nor_deleted(bench: Bench) -> None:
    first = await bench.create(name="sharedname")
    await bench.becomes(first)
    # An impatient person strips the finalizer and makes the claim anew: another claim.
    bench.provisioner.kill()
    await bench.delete(first)
    await bench.strip(first)
    again = await bench.create(name="sharedname")
    before = (await bench.control.pools())[again]["properties"]["eTag"]
    bench.provisioner.start()
    assert "not made for this claim" in await bench.tells(again, "InvalidRequest")
    assert (await bench.control.pools())[again]["properties"]["eTag"] == before
    await bench.delete(again)

    async def gone() -> bool:
        return await bench.claim(again) is None

    for _ in range(100):
        if await gone():
            break
        await asyncio.sleep(0.1)
    assert await gone()
    assert again in await bench.control.pools()
