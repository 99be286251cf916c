"""Faults that a test asks for, as the real Azure client meets them."""

import asyncio
from typing import Any

import pytest
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceNotFoundError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.core.rest import HttpRequest

from sandbox.aks.client import ControlApiError
from sandbox.aks.errors import catalogue
from sandbox.aks.testing import Bench, Starter, retry_after, status_and_code

T4 = "Standard_NC4as_T4_v3"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ("in-progress", (409, "OperationNotAllowed")),
        ("quota-family", (400, "ErrCode_InsufficientVCPUQuota")),
        ("size-restricted-by-capacity", (409, "SkuNotAvailable")),
        ("throttled", (429, "Throttled")),
        ("throttled-subscription", (429, "TooManyRequests")),
        ("forbidden", (403, "AuthorizationFailed")),
        ("unauthorized", (401, "AuthenticationFailed")),
        ("token-expired", (401, "ExpiredAuthenticationToken")),
        ("internal", (500, "InternalServerError")),
        ("unavailable", (503, "ServiceUnavailable")),
    ],
)
async def test_an_error_strikes_once_and_leaves_nothing_behind(
    bench: Bench, error: str, expected: tuple[int, str]
) -> None:
    await bench.control.inject("error", error=error)
    assert status_and_code(await bench.refused("ws1")) == expected
    assert await bench.names() == ["system"]
    await bench.created("ws1")


async def test_every_error_that_has_an_http_status_parses_in_the_client(bench: Bench) -> None:
    for name, entry in catalogue().items():
        if entry.shape == "aad":
            continue
        await bench.control.inject("error", error=name)
        status, code = status_and_code(await bench.refused("ws1"))
        assert (status, code) == (entry.status, entry.code), name


async def test_an_error_of_ones_own_carries_its_status_code_and_retry_after(bench: Bench) -> None:
    await bench.control.inject(
        "error", status=418, code="Teapot", message="No coffee.", retry_after=7
    )
    error = await bench.refused("ws1")
    assert status_and_code(error) == (418, "Teapot")
    assert retry_after(error) == "7"


async def test_a_fault_is_for_its_verb_its_pools_and_its_count(bench: Bench) -> None:
    await bench.control.inject("error", error="internal", pool="gpu*", count=2, skip=1)
    await bench.created("other")
    await bench.created("gpu1")
    await bench.refused("gpu2")
    await bench.refused("gpu3")
    await bench.created("gpu4")
    await bench.control.inject("error", error="internal", verb="GET", count=None)
    for _ in range(3):
        with pytest.raises(HttpResponseError):
            await bench.get("gpu1")
    await bench.control.clear_faults()
    await bench.get("gpu1")


async def test_a_fault_tells_how_often_it_struck(bench: Bench) -> None:
    added = await bench.control.inject("error", error="internal", verb="LIST", count=2, skip=1)
    await bench.names()
    with pytest.raises(HttpResponseError):
        await bench.names()
    (fault,) = await bench.control.faults()
    assert (fault["id"], fault["hits"], fault["seen"]) == (added["id"], 1, 2)
    (call,) = await bench.control.calls("LIST", status=500)
    assert call["faults"] == [added["id"]]


async def test_a_pool_can_fail_late_with_its_error_on_the_pool(bench: Bench) -> None:
    await bench.control.inject("fail", error="bootstrap-failed", seconds=60)
    poller = await bench.create("ws1")
    with pytest.raises(HttpResponseError) as caught:
        await poller.result()
    assert status_and_code(caught.value) == (200, "VMExtensionProvisioningError")
    pool = await bench.get("ws1")
    assert pool.provisioning_state == "Failed"
    assert pool.status is not None
    assert pool.status.provisioning_error is not None
    assert pool.status.provisioning_error.code == "VMExtensionProvisioningError"
    # The VM exists, is paid for, and no Node ever joins.
    (vm,) = await bench.control.nodes()
    assert vm["joinedAt"] is None
    assert (await bench.control.usage())["vcpus"]["regional"] == 6

    await bench.created("ws1")  # a PUT over a failed pool makes other VMs
    await bench.settled(nodes=1)
    (new,) = await bench.control.nodes()
    assert new["node"] != vm["node"]


async def test_an_operation_can_be_stuck_until_it_is_aborted(bench: Bench) -> None:
    await bench.control.inject("stuck")
    poller = await bench.create("ws1")
    await bench.settled(nodes=1)
    await asyncio.sleep(0.2)
    assert (await bench.get("ws1")).provisioning_state == "Creating"
    abort = await bench.azure.agent_pools.begin_abort_latest_operation(*bench.scope, "ws1")
    await abort.result()
    with pytest.raises(HttpResponseError) as caught:
        await poller.result()
    assert status_and_code(caught.value) == (200, "Canceled")
    await bench.delete("ws1")


async def test_an_operation_can_be_slow(bench: Bench) -> None:
    await bench.control.inject("slow", factor=20, pool="slow")
    async with asyncio.TaskGroup() as group:
        slow = await bench.create("slow")
        await group.create_task(bench.created("fast"))
    assert (await bench.get("slow")).provisioning_state == "Creating"
    assert (await slow.result()).provisioning_state == "Succeeded"


async def test_the_status_of_an_operation_can_be_lost(bench: Bench) -> None:
    await bench.control.inject("lost-operation")
    poller = await bench.create("ws1")
    with pytest.raises(HttpResponseError) as caught:
        await poller.result()
    assert status_and_code(caught.value) == (404, "NotFound")
    await bench.settled(nodes=1)


@pytest.mark.parametrize(
    ("effect", "joined", "gpus", "nodes"),
    [("never-join", 0, 0, 1), ("no-gpu", 1, 0, 1), ("extra-node", 2, 2, 2)],
)
async def test_a_pool_can_succeed_with_nodes_that_are_not_as_they_should(
    bench: Bench, effect: str, joined: int, gpus: int, nodes: int
) -> None:
    await bench.control.inject(effect)
    assert (await bench.created("ws1")).provisioning_state == "Succeeded"
    await asyncio.sleep(0.1)  # a GPU shows 25 ms after its node, one that was hidden never
    await bench.settled(nodes=nodes, joined=joined, gpus=gpus)
    assert (await bench.get("ws1")).count == 1
    await bench.delete("ws1")
    assert await bench.control.nodes() == []


async def test_a_node_can_join_long_after_its_pool_has_succeeded(start: Starter) -> None:
    async with start(timings={"operation": 100}) as bench:
        await bench.control.inject("late-node", seconds=5000)
        assert (await bench.created("ws1")).provisioning_state == "Succeeded"
        (vm,) = await bench.control.nodes()
        assert vm["joinedAt"] is None
        await bench.settled(nodes=1, joined=1)


async def test_a_connection_cut_after_the_accepted_put_gives_exactly_one_pool(
    bench: Bench,
) -> None:
    await bench.control.inject("cut")
    with pytest.raises((ServiceRequestError, ServiceResponseError, HttpResponseError)):
        await bench.create("ws1", if_missing=True)
    calls = await bench.control.calls("PUT")
    # aiohttp sends an idempotent request once more when the connection drops.
    assert [(call["status"], call["cut"]) for call in calls] == [(201, True), (412, False)]
    assert await bench.control.created_pools() == ["ws1"]
    await bench.settled(nodes=1)


async def test_a_connection_cut_before_the_put_gives_no_pool(bench: Bench) -> None:
    await bench.control.inject("cut-before", count=2)
    with pytest.raises(ServiceRequestError):
        await bench.create("ws1")
    assert await bench.names() == ["system"]
    assert await bench.control.created_pools() == []


async def test_a_call_can_hang_until_the_client_gives_up(bench: Bench) -> None:
    await bench.control.inject("hang")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await bench.create("ws1")
    assert await bench.names() == ["system"]


async def test_a_call_can_be_delayed(bench: Bench) -> None:
    await bench.control.inject("delay", seconds=0.3, verb="LIST")
    began = asyncio.get_running_loop().time()
    await bench.names()
    assert asyncio.get_running_loop().time() - began >= 0.3


async def test_a_failed_delete_leaves_the_pool_as_it_was(bench: Bench) -> None:
    await bench.created("ws1")
    await bench.control.inject("fail", verb="DELETE", error="internal-late")
    with pytest.raises(HttpResponseError):
        await bench.delete("ws1")
    assert (await bench.get("ws1")).provisioning_state == "Failed"
    (vm,) = await bench.control.nodes()
    assert vm["leaving"] is False
    await bench.delete("ws1")
    with pytest.raises(ResourceNotFoundError):
        await bench.get("ws1")


async def test_a_throttle_says_in_words_what_its_header_says(bench: Bench) -> None:
    await bench.control.inject("error", error="throttled", retry_after=7)
    error = await bench.refused("ws1")
    assert retry_after(error) == "7"
    assert "please retry again in 7 seconds" in str(error)
    await bench.control.inject("error", verb="LIST", error="throttled")
    with pytest.raises(HttpResponseError) as caught:
        await bench.names()
    assert "The AgentPoolHandler request limit" in str(caught.value)
    assert retry_after(caught.value) == "30"


async def test_a_quota_fault_speaks_of_what_was_asked_for(bench: Bench) -> None:
    await bench.created("ws1", vmSize=T4, count=2)
    await bench.control.inject("error", error="quota-family")
    error = await bench.refused("ws2", vmSize=T4, count=3)
    assert "requested 12, remaining 0 for family Standard NCASv3_T4 Family" in str(error)

    await bench.control.inject("fail", error="quota-family-late")
    with pytest.raises(HttpResponseError) as caught:
        await bench.created("ws1", vmSize=T4, count=3)
    text = "Current Limit: 8, Current Usage: 8, Additional Required: 4"
    assert f"{text}, (Minimum) New Limit Required: 12" in str(caught.value)


async def test_a_quota_fault_keeps_to_a_quota_that_is_set(bench: Bench) -> None:
    await bench.control.set_quota(families={"Standard NCASv3_T4 Family": 10})
    await bench.created("ws1", vmSize=T4, count=2)
    await bench.control.inject("error", error="quota-family")
    assert "requested 4, remaining 2 for" in str(await bench.refused("ws2", vmSize=T4))


async def test_a_refused_permission_names_the_action(bench: Bench) -> None:
    await bench.created("ws1")
    await bench.control.inject("error", verb="DELETE", error="forbidden")
    with pytest.raises(HttpResponseError, match="agentPools/delete'"):
        await bench.delete("ws1")


async def test_no_error_leaves_a_gap_in_its_text(bench: Bench) -> None:
    url = f"{bench.emulator.url}{bench.emulator.cluster.id}/agentPools/ws1?api-version=2026-08-01"
    texts = {}
    for name in catalogue():
        await bench.control.inject("error", verb="GET", error=name, status=400)
        texts[name] = (await bench.azure.send_request(HttpRequest("GET", url))).text()
    assert {name: text for name, text in texts.items() if "${" in text} == {}


async def test_the_token_endpoint_can_fail_too(bench: Bench) -> None:
    await bench.control.inject("error", verb="TOKEN", error="aad-oidc-fetch")
    with pytest.raises(ClientAuthenticationError) as caught:
        await bench.names()
    assert "AADSTS501661" in str(caught.value)
    assert await bench.names() == ["system"]


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        ({"effect": "explode"}, "effect"),
        ({"effect": "error"}, "needs `error`"),
        ({"effect": "error", "error": "no-such"}, "quota-family"),
        ({"effect": "stuck", "verb": "POST"}, "verb"),
        ({"effect": "stuck", "poool": "x"}, "poool"),
        ({"effect": "stuck", "count": 0}, "count"),
    ],
)
async def test_a_fault_that_makes_no_sense_is_refused_by_field(
    bench: Bench, fault: dict[str, Any], named: str
) -> None:
    with pytest.raises(ControlApiError) as caught:
        await bench.control.inject(**fault)
    assert named in str(caught.value)
