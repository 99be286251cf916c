"""Whole passes that Azure refuses something to, however often it does so."""

import pytest
from prometheus_client import REGISTRY
from provisioner_world.builders import NAME
from provisioner_world.rig import KEY, NODE, Rig
from structlog.testing import capture_logs

from gpu_provisioner.azure.courses import Kind
from gpu_provisioner.azure.errors import Failure, own_limit
from gpu_provisioner.claims.actions import Policy
from gpuapis.core import Node
from gpuapis.labels import TERMINATION_FINALIZER
from gpuapis.machine import Machine

SOLD_OUT = '{"code":"AllocationFailed","message":"none left"}'


@pytest.mark.parametrize("times", [1, 2, 3, 5])
async def test_a_claim_goes_however_often_its_pool_may_not_be_deleted_yet(times: int) -> None:
    rig = Rig()
    rig.create()
    async with rig.process():
        await rig.settle()
        rig.pools.fail["delete"] = [Failure("conflict", "The cluster is upgraded.")] * times
        await rig.delete()
        await rig.settle(300)
        assert rig.pools.count("delete") == times + 1
    assert rig.api.see(Machine.RESOURCE, KEY) is None
    assert rig.pools.pools == {}


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("kind", ["conflict", "forbidden", "throttled", "transient"])
async def test_37_a_failed_pool_goes_however_often_that_is_refused(kind: Kind, times: int) -> None:
    rig = Rig()
    rig.create()
    async with rig.process():
        await rig.clock.advance(1)
        rig.pools.fail["delete"] = [Failure(kind, "No.")] * times
        rig.pools.end(NAME, "Failed", error=SOLD_OUT)
        await rig.clock.advance(900)
        assert rig.pools.count("delete") == times + 1
        assert rig.pools.pools[NAME].state == "Deleting"
        rig.azure_goes_on()
        await rig.settle(120)
        assert rig.told()["Ready"] == ("True", "")


@pytest.mark.parametrize("kind", ["throttled", "transient"])
async def test_an_azure_that_asks_for_no_wait_at_all_is_asked_again_soon(kind: Kind) -> None:
    rig = Rig()
    rig.pools.fail["put"] = [Failure(kind, "No.", 0.0)] * 2
    rig.create()
    async with rig.process():
        await rig.settle(60)
        assert rig.pools.count("put") == 3
        assert rig.told()["Ready"] == ("True", "")


async def test_the_node_of_a_failed_pool_goes_while_the_claim_waits() -> None:
    rig = Rig()
    rig.create()
    async with rig.process():
        await rig.clock.advance(1)
        rig.join(ready=False)
        await rig.clock.advance(3)
        registered = rig.api.see(Node.RESOURCE, NODE)
        assert registered is not None
        assert registered["metadata"]["finalizers"] == [TERMINATION_FINALIZER]
        rig.pools.end(NAME, "Failed", error=SOLD_OUT)
        await rig.clock.advance(3)
        # AKS deletes the node's object once its VM is gone.
        await rig.api.client().delete(Node.RESOURCE, NODE)
        rig.azure_goes_on()
        await rig.clock.advance(2)
        assert rig.api.see(Node.RESOURCE, NODE) is None
        assert rig.told()["MachineLaunched"] == ("False", "InsufficientCapacity")


async def test_what_a_list_does_not_disprove_twice_is_waited_out() -> None:
    rig = Rig()
    rig.pools.fail["put"] = [Failure("credentials", "No.")] * 50
    rig.create()
    async with rig.process():
        await rig.clock.advance(600)
        # At 0 s, once more after the first list, then after 120 s and 240 s.
        assert rig.pools.count("put") == 4


async def test_25_a_list_that_recovers_ends_every_wait_for_credentials() -> None:
    rig = Rig()
    rig.pools.fail["put"] = [Failure("credentials", "No.")] * 2
    rig.create()
    async with rig.process():
        await rig.clock.advance(10)
        assert rig.pools.count("put") == 2
        rig.pools.fail["list"] = [Failure("credentials", "No.")]
        await rig.clock.advance(75)
        assert rig.pools.count("put") == 3


async def test_our_own_queue_is_no_failure_of_the_claim() -> None:
    rig = Rig()
    rig.pools.fail["put"] = [own_limit("one request a minute", 30.0, 0)]
    rig.create()
    before = _throttled()
    with capture_logs() as logs:
        async with rig.process():
            await rig.clock.advance(1)
            assert rig.told()["MachineLaunched"] == ("Unknown", "Throttled")
    assert _throttled() == before
    assert "azure refused" not in {entry["event"] for entry in logs}


def _throttled() -> float | None:
    told = {"kind": "Machine", "reason": "Throttled"}
    return REGISTRY.get_sample_value("gpu_provisioner_claim_failures_total", told)


async def test_a_claim_that_is_handed_back_at_once_does_not_wait_for_anything() -> None:
    rig = Rig(policy=Policy(on_insufficient_capacity="delete"))
    rig.pools.fail["put"] = [Failure("capacity", "None left.")]
    rig.create()
    async with rig.process():
        await rig.clock.advance(5)
    assert rig.api.see(Machine.RESOURCE, KEY) is None
    assert rig.events.reasons == [("Warning", "InsufficientCapacity")]
