"""Removal by hand at every stage, and a kill at every step: nothing is left, nothing is doubled."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from provisioner_world.bench import BUDGETS, Bench

from controlkit.kube.objects import Key
from controlkit_testing import eventually
from gpuapis.core import Node, Pod
from gpuapis.labels import (
    DISRUPTED_TAINT,
    EXCLUDE_FROM_LOAD_BALANCERS,
    PROVISION_STARTED,
    TERMINATION_FINALIZER,
)

Moment = Callable[[Bench, str], Awaitable[bool | None]]


async def held(bench: Bench, name: str) -> bool:
    claim = await bench.claim(name)
    return claim is not None and TERMINATION_FINALIZER in claim.metadata.finalizers


async def marked(bench: Bench, name: str) -> bool:
    claim = await bench.claim(name)
    return claim is not None and PROVISION_STARTED in claim.metadata.annotations


async def asked(bench: Bench, name: str) -> bool:
    return bool(await bench.control.calls("PUT", pool=name))


async def creating(bench: Bench, name: str) -> bool:
    return name in await bench.control.pools()


async def told(bench: Bench, name: str) -> bool:
    return (await bench.condition(name, "Launched"))[1] == "PoolCreating"


async def joined(bench: Bench, name: str) -> bool:
    return bool(await bench.nodes(name))


async def registered(bench: Bench, name: str) -> bool:
    return any(TERMINATION_FINALIZER in n.metadata.finalizers for n in await bench.nodes(name))


async def launched(bench: Bench, name: str) -> bool:
    return (await bench.condition(name, "Launched"))[0] == "True"


async def ready(bench: Bench, name: str) -> bool:
    return (await bench.condition(name, "Ready"))[0] == "True"


async def cordoned(bench: Bench, name: str) -> bool:
    nodes = await bench.nodes(name)
    return any(t.key == DISRUPTED_TAINT for node in nodes for t in node.spec.taints)


async def deletion_asked(bench: Bench, name: str) -> bool:
    return bool(await bench.control.calls("DELETE", pool=name))


async def node_gone(bench: Bench, name: str) -> bool:
    return not await bench.nodes(name)


async def pool_gone(bench: Bench, name: str) -> bool:
    return name not in await bench.control.pools()


CREATION = [held, marked, asked, creating, told, joined, registered, launched, ready]
REMOVAL = [cordoned, deletion_asked, node_gone, pool_gone]


async def reach(bench: Bench, name: str, moment: Moment) -> None:
    await eventually(
        lambda: moment(bench, name), lambda: bench.story(name, f"it is {moment.__name__}")
    )


@pytest.mark.parametrize("moment", CREATION, ids=lambda moment: moment.__name__)
async def test_3_a_kill_at_this_step_of_the_creation_leaves_one_pool(
    bench: Bench, moment: Moment
) -> None:
    name = await bench.create()
    await reach(bench, name, moment)
    bench.provisioner.kill()
    bench.provisioner.start()
    await bench.becomes(name)
    assert (await bench.control.created_pools()).count(name) == 1
    await bench.delete(name)
    await bench.is_gone(name)


@pytest.mark.parametrize("moment", REMOVAL, ids=lambda moment: moment.__name__)
async def test_a_kill_at_this_step_of_the_removal_leaves_nothing(
    bench: Bench, moment: Moment
) -> None:
    name = await bench.create()
    await bench.becomes(name)
    await bench.run_pod(await bench.node(name))
    await bench.delete(name)
    await reach(bench, name, moment)
    bench.provisioner.kill()
    bench.provisioner.start()
    await bench.is_gone(name)


@pytest.mark.parametrize("moment", CREATION, ids=lambda moment: moment.__name__)
async def test_29_a_machine_deleted_by_hand_at_this_stage_leaves_nothing(
    bench: Bench, moment: Moment
) -> None:
    name = await bench.create()
    await reach(bench, name, moment)
    await bench.delete(name)
    await bench.is_gone(name)
    assert (await bench.control.created_pools()).count(name) <= 1


async def test_29_a_pool_that_is_being_made_is_given_up_at_once(bench: Bench) -> None:
    await bench.control.set(timings={"join": 3_000})
    name = await bench.create()
    await bench.phase(name, "Creating")
    await bench.delete(name)
    await bench.is_gone(name, seconds=20)
    assert await bench.control.calls("ABORT", pool=name)


async def test_30_a_claim_deleted_before_its_pool_was_asked_for_costs_nothing(
    bench: Bench,
) -> None:
    bench.provisioner.kill()
    name = await bench.create()
    await bench.delete(name)
    bench.provisioner.start()
    await bench.is_gone(name)
    assert await bench.puts(name) == []


async def test_33_a_node_deleted_by_hand_takes_claim_and_pool_along(bench: Bench) -> None:
    name = await bench.create()
    await bench.becomes(name)
    node = await bench.node(name)
    await bench.client.delete(Node.RESOURCE, node.key)
    await bench.is_gone(name)
    assert any(each["reason"] == "NodeDeleted" for each in await bench.events(name))


async def test_31_pods_leave_as_their_budget_allows_before_the_vm_goes(bench: Bench) -> None:
    name = await bench.create()
    await bench.becomes(name)
    node = await bench.node(name)
    free, guarded = (
        await bench.run_pod(node, "free"),
        await bench.run_pod(node, "guarded", app="model"),
    )
    budget = {
        "metadata": {"name": "model", "namespace": bench.namespace},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "model"}}},
    }
    await bench.client.create(BUDGETS, budget)
    await bench.delete(name)

    async def blocked() -> bool:
        return any(each["reason"] == "FailedDraining" for each in await bench.events(name))

    await eventually(blocked, lambda: bench.story(name, "the drain is told to be blocked"))
    await bench.tells(name, "Draining", "Drained")
    assert await bench.client.get(Pod, free) is None
    assert await bench.client.get(Pod, guarded) is not None
    node = await bench.node(name)
    assert EXCLUDE_FROM_LOAD_BALANCERS in node.metadata.labels
    assert not await bench.control.calls("DELETE", pool=name)

    await bench.client.delete(BUDGETS, Key(bench.namespace, "model"))
    await bench.is_gone(name)
    assert await bench.client.get(Pod, guarded) is None


async def test_32_the_grace_period_ends_what_a_budget_forbids(bench: Bench) -> None:
    name = await bench.create("nodeclaim", terminationGracePeriod="3s")
    await bench.becomes(name, kind="nodeclaim")
    await bench.run_pod(await bench.node(name), "guarded", app="model")
    budget = {
        "metadata": {"name": "model", "namespace": bench.namespace},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "model"}}},
    }
    await bench.client.create(BUDGETS, budget)
    await bench.delete(name, "nodeclaim")
    await bench.is_gone(name, "nodeclaim", seconds=20)


async def test_27_a_vm_that_never_joins_is_given_up(bench: Bench) -> None:
    bench.provisioner.start(REGISTRATION_TIMEOUT="4s")
    await bench.control.inject("never-join")
    name = await bench.create()
    await bench.is_gone(name)
    events = {each["reason"]: each["message"] for each in await bench.events(name)}
    assert "has not become a node" in events["RegistrationTimeout"]
    bench.provisioner.stop()


async def test_28_a_pool_that_is_never_made_is_marked_where_the_operator_wants_that(
    bench: Bench,
) -> None:
    bench.provisioner.start(LAUNCH_TIMEOUT="3s", ON_TIMEOUT="mark")
    await bench.control.inject("stuck")
    await bench.control.set(timings={"join": 3_000})
    name = await bench.create()
    message = await bench.tells(name, "LaunchFailed")
    assert "has not made agent pool" in message
    assert name in await bench.control.pools()
    await bench.delete(name)
    await bench.is_gone(name)
    bench.provisioner.stop()


async def test_13_a_second_node_is_told_and_survived(bench: Bench) -> None:
    await bench.control.inject("extra-node")
    name = await bench.create()
    message = await bench.tells(name, "MultipleNodesFound", "Registered")
    assert message.count("vmss") == 2
    await bench.delete(name)
    await bench.is_gone(name)


async def test_18_a_gpu_that_never_appears_is_told(bench: Bench) -> None:
    await bench.control.inject("no-gpu")
    name = await bench.create()
    assert "nvidia.com/gpu" in await bench.tells(name, "ResourceNotRegistered", "Initialized")
    await asyncio.sleep(0.5)
    assert (await bench.condition(name, "Ready"))[0] == "False"


async def test_a_node_that_falls_silent_is_told_on_a_machine(bench: Bench) -> None:
    name = await bench.create()
    await bench.becomes(name)
    await bench.control.set_ready(name, ready=False)
    await bench.tells(name, "NodeNotReady", "Ready")
    await bench.control.set_ready(name, ready=True)
    await bench.becomes(name)
