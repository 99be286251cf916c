"""Whole passes that Azure refuses something to, however often it does so."""

import pytest
from provisioner_world.builders import NAME
from provisioner_world.rig import KEY, Rig

from gpu_provisioner.azure.courses import Kind
from gpu_provisioner.azure.errors import Failure
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
