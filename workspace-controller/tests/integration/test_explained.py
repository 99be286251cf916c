"""Every reason that a provisioner gives for a failure reaches the person: soon, once, and in full."""

import time
from typing import Any

import pytest
from workspace_world import Bench, ControllerProcess

from gpuapis.machine import Machine
from workspace_controller.claims.causes import BLOCKED, BROKEN, HOPELESS, REMEDIES

pytestmark = pytest.mark.control_plane

SAID = "What it was: limit 6, in use 6, 6 more needed. What to do about it."
WORDS = "SomeCode: the cloud explains itself at length."
WAITING = ("Throttled", "OperationInProgress")


@pytest.mark.parametrize("reason", sorted(BLOCKED | BROKEN | HOPELESS))
async def test_a_failure_is_on_the_conditions_in_one_event_and_in_the_log_within_two_seconds(
    controller: ControllerProcess, bench: Bench, reason: str
) -> None:
    bench.world.failure = (reason, f"{SAID} Azure: {WORDS}")
    key = await bench.create(reason.lower())
    claim = await bench.the_claim(key)

    async def failed() -> bool:
        return bool((await bench.read(Machine, claim.key)).status.conditions)

    await bench.eventually(failed, "the provisioner has failed")
    began = time.monotonic()
    full = await bench.condition(key, "MachineReady", "False", reason, seconds=2.0)
    whole = await bench.condition(key, "WorkspaceReady", "False", "workspaceFailed", seconds=2.0)

    async def warned() -> list[dict[str, Any]]:
        return await bench.events(key, "Warning")

    await bench.eventually(warned, "a Warning")
    assert time.monotonic() - began < 2.0
    for part in ("for one Standard_NC6s_v3", SAID, REMEDIES.get(reason, ""), WORDS):
        assert part in full.message
    summary = "What it was: limit 6, in use 6, 6 more needed. What to do: see MachineReady."
    resource = await bench.condition(key, "ResourceReady", "False", reason)
    for condition in (resource, whole):
        assert condition.message.endswith(summary)
    (attempt,) = (await bench.workspace(key)).status.attempts
    assert (attempt.reason, attempt.ended_at is not None) == (reason, True)

    await bench.pause(0.3)
    (warning,) = await bench.events(key, "Warning")
    assert (warning["reason"], warning["count"]) == (reason, 1)
    assert SAID in warning["message"]
    assert len(bench.world.made) == 1, "its provisioner, or a person, decides on another"
    assert controller.process is not None
    logged = [line for line in controller.process.log_tail(400).splitlines() if key.name in line]
    assert sum("workspace held up" in line and reason in line for line in logged) == 1


@pytest.mark.parametrize("reason", WAITING)
async def test_a_wait_for_a_turn_is_told_and_alarms_nobody(
    controller: ControllerProcess, bench: Bench, reason: str
) -> None:
    bench.world.failure = (reason, "Waiting for a turn: AKS takes one a minute.")
    key = await bench.create(reason.lower())

    async def told() -> bool:
        conditions = (await bench.workspace(key)).status.conditions
        return any("Waiting for a turn" in each.message for each in conditions)

    await bench.eventually(told, "the wait is told")
    await bench.condition(key, "MachineReady", "Unknown", "CreateMachinePending")
    assert await bench.events(key, "Warning") == []


async def test_a_second_try_tells_what_became_of_the_first(
    controller: ControllerProcess, bench: Bench
) -> None:
    bench.world.failure = ("InsufficientCapacity", "No free machine just now. Wait.")
    key = await bench.create("again")
    await bench.condition(key, "MachineReady", "False", "InsufficientCapacity")
    bench.world.failure = None
    bench.world.stop_at = "launched"

    async def told() -> bool:
        conditions = (await bench.workspace(key)).status.conditions
        second = "This is try 2; the one before failed with InsufficientCapacity: No free machine"
        return any(second in each.message for each in conditions)

    await bench.eventually(told, "the cause of the first try is told during the second")
    bench.world.stop_at = "ready"
    await bench.condition(key, "WorkspaceReady", "True")
    first, second = (await bench.workspace(key)).status.attempts
    assert (first.reason, second.ended_at) == ("InsufficientCapacity", None)


async def test_nobody_at_the_other_end_is_told_apart_from_a_cloud_that_is_slow(
    controller_process: ControllerProcess, bench: Bench
) -> None:
    controller_process.start(PROVISIONER_ANSWER_TIMEOUT="1s", NODE_LAUNCH_TIMEOUT="2s")
    bench.world.stop_at = "nowhere"
    key = await bench.create("alone")
    claim = await bench.the_claim(key)
    silent = await bench.condition(key, "MachineReady", "False", "NoProvisionerAnswer")
    assert f"no provisioner has reacted to Machine {claim.key.name} for 1 s" in silent.message
    assert "is the gpu-provisioner installed and running?" in silent.message

    bench.world.failure = ("PoolCreating", "AKS is making agent pool x")
    await bench.condition(key, "MachineReady", "Unknown", "CreateMachinePending")
    slow = await bench.condition(key, "MachineReady", "False", "NodeDelayed")
    assert "was not launched within 2 s (NODE_LAUNCH_TIMEOUT)" in slow.message
    assert "PoolCreating: AKS is making agent pool x" in slow.message
