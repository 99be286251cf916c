"""How long each step took, from the objects' own times."""

from datetime import UTC, datetime, timedelta
from typing import Any

from gpuapis.core import Pod
from workspace_controller.workspaces.facts import Claim
from workspace_controller.workspaces.phases import phases, with_ready

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def claim(*milestones: float | None) -> Claim:
    reached = tuple(None if each is None else at(each) for each in milestones)
    return Claim("ws1", "Machine", "ready", START, milestones=reached)


def pod(*, running: float | None = None, ready: float | None = None) -> Pod:
    state = {} if running is None else {"running": {"startedAt": at(running).isoformat()}}
    conditions: list[dict[str, Any]] = []
    if ready is not None:
        moment = at(ready).isoformat()
        conditions = [{"type": "Ready", "status": "True", "lastTransitionTime": moment}]
    return Pod.model_validate(
        {
            "metadata": {"name": "p", "namespace": "n"},
            "status": {
                "startTime": at(10).isoformat(),
                "conditions": conditions,
                "containerStatuses": [{"name": "model", "state": state}],
            },
        }
    )


def told(claims: list[Claim], pods: list[Pod]) -> dict[str, int]:
    return {phase.name: phase.seconds for phase in phases(START, claims, pods)}


def test_steps_are_timed_one_after_another() -> None:
    assert told([claim(1, 4, 7, 9)], [pod(running=15, ready=40)]) == {
        "claim": 1,
        "launch": 3,
        "join": 3,
        "gpu": 2,
        "image": 5,
        "load": 25,
    }


def test_of_several_nodes_the_slowest_counts() -> None:
    assert told([claim(1, 4, 7, 9), claim(1, 3, 13, 14)], [])["join"] == 10


def test_a_step_that_still_runs_is_absent() -> None:
    assert told([claim(1, 4, None, None)], [pod()]) == {"claim": 1, "launch": 3}


def test_clocks_that_disagree_give_no_negative_times() -> None:
    assert told([claim(-2, -3, None, None)], []) == {"claim": 0, "launch": 0}


def test_the_whole_time_ends_the_list() -> None:
    done = phases(START, [claim(1, 4, 7, 9)], [])
    *_, ready, total = with_ready(done, START, [pod(running=15, ready=40)], at(42))
    assert (ready.name, ready.seconds) == ("ready", 2)
    assert (total.name, total.seconds) == ("total", 42)


def test_a_workspace_without_pods_is_ready_at_once() -> None:
    *_, ready, total = with_ready((), START, [], at(42))
    assert (ready.seconds, total.seconds) == (0, 42)
