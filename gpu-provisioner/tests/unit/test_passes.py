"""Whole passes in virtual time, over an API server and agent pools in memory."""

import pytest
from prometheus_client import REGISTRY
from provisioner_world.builders import NAME, pool
from provisioner_world.rig import KEY, NODE, Rig

from controlkit.errors import ControlError, Transient
from controlkit.kube.objects import Key
from gpu_provisioner.azure.errors import Failure
from gpu_provisioner.claims.actions import DeleteClaim
from gpu_provisioner.claims.execute import Work
from gpu_provisioner.claims.machine import MachineDialect
from gpuapis.core import Node, Pod
from gpuapis.machine import Machine


async def test_a_claim_is_served_and_removed_in_memory_too() -> None:
    rig = Rig()
    rig.create()
    async with rig.process():
        await rig.settle()
        assert rig.told()["Ready"] == ("True", "")
        await rig.delete()
        await rig.settle()
    assert rig.api.see(Machine.RESOURCE, KEY) is None
    assert rig.api.see(Node.RESOURCE, NODE) is None
    assert rig.pools.pools == {}
    assert rig.pools.count("put") == 1
    assert rig.events.reasons == []


CREATION, REMOVAL = 7, 6
"""Actions that each takes; the test below says when that changes."""


@pytest.mark.parametrize("actions", range(CREATION + REMOVAL + 1))
async def test_3_a_crash_before_any_action_leaves_one_pool_and_then_none(actions: int) -> None:
    rig = Rig()
    rig.create()
    async with rig.process(actions):
        await rig.settle(10)
        assert (rig.told().get("Ready") == ("True", "")) is (actions >= CREATION)
        if actions >= CREATION:
            await rig.delete()
            await rig.settle(10)
            gone = rig.api.see(Machine.RESOURCE, KEY) is None
            assert gone is (actions >= CREATION + REMOVAL)
    async with rig.process():
        if actions < CREATION:
            await rig.settle()
            assert rig.told()["Ready"] == ("True", "")
            await rig.delete()
        await rig.settle()
    assert rig.api.see(Machine.RESOURCE, KEY) is None
    assert rig.api.see(Node.RESOURCE, NODE) is None
    assert rig.pools.pools == {}
    assert rig.pools.count("put") <= 1


async def test_21_a_refusal_is_on_the_claim_within_a_second_and_said_once() -> None:
    rig = Rig()
    rig.pools.fail["put"] = [Failure("quota", "Used up.")] * 3
    rig.create()
    async with rig.process():
        await rig.clock.advance(1)
        assert rig.told()["MachineLaunched"] == ("False", "QuotaExceeded")
        await rig.clock.advance(290)
        assert rig.pools.count("put") == 1
        await rig.clock.advance(20)
        assert rig.pools.count("put") == 2
        await rig.clock.advance(600)
        assert rig.pools.count("put") == 3
        await rig.clock.advance(1_300)
        await rig.settle()
        assert rig.told()["Ready"] == ("True", "")
    assert rig.events.reasons == [("Warning", "QuotaExceeded")]


async def test_25_what_a_list_disproves_is_not_waited_out() -> None:
    rig = Rig()
    rig.pools.fail["put"] = [Failure("credentials", "No.")]
    rig.create()
    async with rig.process():
        await rig.clock.advance(1)
        assert rig.told()["MachineLaunched"] == ("False", "AuthorizationFailed")
        await rig.clock.advance(6)
        assert rig.pools.count("put") == 2


async def test_37_a_pool_that_fails_is_deleted_and_made_again_after_its_time() -> None:
    rig = Rig()
    rig.create()
    async with rig.process():
        await rig.clock.advance(1)
        rig.pools.end(NAME, "Failed", error='{"code":"AllocationFailed","message":"none left"}')
        await rig.clock.advance(3)
        assert rig.told()["MachineLaunched"] == ("False", "InsufficientCapacity")
        assert rig.pools.pools[NAME].state == "Deleting"
        rig.azure_goes_on()
        await rig.clock.advance(50)
        assert rig.pools.count("put") == 1
        await rig.clock.advance(30)
        assert rig.pools.count("put") == 2


async def test_a_pod_that_may_not_leave_yet_is_told_and_waited_for() -> None:
    rig = Rig()
    rig.create()
    async with rig.process():
        await rig.settle()
        pod = {"metadata": {"name": "model", "namespace": "models", "uid": "p"}, "spec": {}}
        rig.api.put(Pod.RESOURCE, pod)
        rig.api.fault = _eviction_refused
        await rig.delete()
        await rig.clock.advance(5)
        assert rig.told()["Drained"] == ("Unknown", "Draining")
        assert ("Warning", "FailedDraining") in rig.events.reasons
        assert rig.pools.count("delete") == 0
        rig.api.remove(Pod.RESOURCE, Key("models", "model"))
        await rig.settle()
    assert rig.pools.pools == {}


def _eviction_refused(_verb: str, path: str) -> ControlError | None:
    return Transient("TooManyRequests", "its budget") if path.endswith("/eviction") else None


async def test_an_unknown_image_family_is_told_and_ubuntu_taken() -> None:
    rig = Rig()
    rig.create()
    claim = rig.api.see(Machine.RESOURCE, KEY)
    assert claim is not None
    claim["metadata"]["annotations"] = {"kaito.sh/node-image-family": "Mariner"}
    rig.api.put(Machine.RESOURCE, claim)
    async with rig.process():
        await rig.clock.advance(1)
    assert rig.events.reasons == [("Warning", "UnknownImageFamily")]
    assert NAME in rig.pools.pools


async def test_27_a_claim_that_is_given_up_is_told_and_removed() -> None:
    rig = Rig()
    rig.create()
    async with rig.process():
        await rig.clock.advance(1)
        rig.pools.end(NAME, "Succeeded")
        await rig.clock.advance(905)
        await rig.settle(20)
    assert rig.api.see(Machine.RESOURCE, KEY) is None
    assert rig.events.reasons == [("Warning", "RegistrationTimeout")]


async def test_a_stranger_that_takes_the_name_first_is_found_at_once() -> None:
    rig = Rig()
    async with rig.process():
        await rig.clock.advance(1)
        # The next list is a minute off; only the request itself can find out.
        rig.pools.pools[NAME] = pool(uid="uid-of-a-stranger")
        rig.create()
        await rig.clock.advance(1)
        assert rig.told()["MachineLaunched"] == ("False", "InvalidRequest")
        await rig.delete()
        await rig.clock.advance(1)
    assert rig.api.see(Machine.RESOURCE, KEY) is None
    assert rig.pools.pools[NAME].state == "Succeeded"


async def test_azure_that_cannot_be_seen_is_told_on_the_claim_within_a_second() -> None:
    rig = Rig()
    rig.pools.fail["list"] = [Failure("credentials", "No.")]
    rig.create()
    async with rig.process():
        await rig.clock.advance(1)
        assert rig.told()["MachineLaunched"] == ("False", "AuthorizationFailed")
        await rig.settle(20)
        assert rig.told()["Ready"] == ("True", "")


async def test_27_a_claim_that_is_given_up_twice_is_told_and_counted_once() -> None:
    rig = Rig()
    rig.create()
    async with rig.process():
        await rig.clock.advance(1)
        item = Machine.model_validate(rig.api.see(Machine.RESOURCE, KEY))
        claim = MachineDialect().read(item)
        assert claim is not None
        before = _given_up()
        for _ in range(2):  # as when the cache does not yet show the first
            work = Work(item, claim, Machine.RESOURCE)
            await rig.fleet.claims["Machine"].executor.carry_out(
                work, DeleteClaim("LaunchTimeout", "Too late.")
            )
        assert _given_up() == before + 1
        assert rig.events.reasons == [("Warning", "LaunchTimeout")]


def _given_up() -> float:
    told = {"kind": "Machine", "reason": "LaunchTimeout"}
    return REGISTRY.get_sample_value("gpu_provisioner_claims_given_up_total", told) or 0.0


async def test_a_claim_of_the_other_kind_keeps_its_place_in_the_line() -> None:
    rig = Rig()
    async with rig.process():
        puts = rig.gateway.puts
        puts.wait("other-kind")
        puts.wait("later")
        await rig.fleet.claims["Machine"].reconcile(Key("", "other-kind"))
        assert puts.ahead("later") == 1


async def test_a_claim_that_is_gone_gives_up_its_place_in_the_line() -> None:
    rig = Rig()
    rig.create()
    async with rig.process():
        await rig.clock.advance(1)
        puts = rig.gateway.puts
        puts.wait(NAME)
        puts.wait("later")
        rig.api.remove(Machine.RESOURCE, KEY)
        await rig.clock.advance(1)
        assert puts.ahead("later") == 0


async def test_a_claim_that_is_given_its_place_keeps_its_turn_before_those_behind_it() -> None:
    rig = Rig()
    async with rig.process():
        puts = rig.gateway.puts
        for earlier in range(20):
            puts.take(f"earlier-{earlier}")
        rig.create()
        await rig.settle(1)
        for later in range(3):
            puts.wait(f"later-{later}")
        await rig.clock.advance(65)
        assert rig.pools.count("put") == 1
