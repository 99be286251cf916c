"""Which step a Workspace has reached, from what its objects say."""

from typing import Any

import pytest

from gpuapis import labels
from gpuapis.core import Node, Pod
from gpuapis.machine import Machine
from gpuapis.workspace import Workspace
from sandbox.demo.phases import PHASES, TUNING_PHASES, Seen, explanation, failed, reached


def workspace(status: str = "False") -> Workspace:
    condition = {"type": "WorkspaceReady", "status": status, "reason": "R", "message": "because"}
    return Workspace.model_validate(
        {
            "metadata": {"name": "w"},
            "resource": {"labelSelector": {}},
            "status": {"conditions": [condition]},
        }
    )


def run(**tuning: Any) -> Workspace:
    metadata, status = {"name": "w"}, {"tuning": {"run": "r", **tuning}}
    return Workspace.model_validate(
        {"metadata": metadata, "resource": {"labelSelector": {}}, "status": status}
    )


def machine(**launched: str) -> Machine:
    conditions = [{"type": "MachineLaunched", **launched}] if launched else []
    return Machine.model_validate({"metadata": {"name": "m"}, "status": {"conditions": conditions}})


def node(gpus: int) -> Node:
    resources = {labels.GPU_RESOURCE: str(gpus)} if gpus else {}
    return Node.model_validate({"metadata": {"name": "n"}, "status": {"allocatable": resources}})


def pod(*, running: bool, ready: bool) -> Pod:
    state: dict[str, Any] = {"running": {}} if running else {"waiting": {"reason": "Pulling"}}
    return Pod.model_validate(
        {
            "metadata": {"name": "p"},
            "status": {
                "containerStatuses": [{"name": "c", "state": state}],
                "conditions": [{"type": "Ready", "status": str(ready)}],
            },
        }
    )


CREATING = machine(status="Unknown", reason="PoolCreating")
REFUSED = machine(status="False", reason="QuotaExceeded")
READY_POD = pod(running=True, ready=True)


@pytest.mark.parametrize(
    ("seen", "step"),
    [
        (Seen(None, (), (), ()), "nothing"),
        (Seen(workspace(), (machine(),), (), ()), "claim created"),
        (Seen(workspace(), (REFUSED,), (), ()), "claim created"),
        (Seen(workspace(), (CREATING,), (), ()), "pool accepted"),
        (Seen(workspace(), (CREATING,), (node(0),), ()), "node joined"),
        (Seen(workspace(), (CREATING,), (node(1),), ()), "GPU advertised"),
        (
            Seen(workspace(), (CREATING,), (node(1),), (pod(running=False, ready=False),)),
            "GPU advertised",
        ),
        (Seen(workspace(), (CREATING,), (node(1),), (pod(running=True, ready=False),)), "image"),
        (Seen(workspace(), (CREATING,), (node(1),), (READY_POD,)), "model loaded"),
        (Seen(workspace("True"), (CREATING,), (node(1),), (READY_POD,)), "ready"),
        (Seen(workspace("True"), (), (node(1),), (READY_POD,)), "nothing"),
    ],
)
def test_the_last_step_reached(seen: Seen, step: str) -> None:
    assert ("nothing", *PHASES)[reached(seen)] == step


def test_a_workspace_that_is_not_ready_says_why() -> None:
    assert explanation(Seen(workspace(), (), (), ())) == "WorkspaceReady=False (R): because"


@pytest.mark.parametrize(
    ("workspace", "step"),
    [
        (run(), "image"),
        (run(step=1, totalSteps=2), "image"),
        (run(step=2, totalSteps=2), "trained"),
        (run(step=2, totalSteps=2, result="Failed"), "trained"),
    ],
)
def test_the_last_step_of_a_run(workspace: Workspace, step: str) -> None:
    seen = Seen(workspace, (CREATING,), (node(1),), (pod(running=True, ready=False),))
    assert TUNING_PHASES[reached(seen) - 1] == step


def test_a_run_that_succeeded_has_given_its_node_up() -> None:
    assert reached(Seen(run(result="Succeeded"), (), (), ())) == len(TUNING_PHASES)


def test_a_run_that_failed_is_not_waited_for() -> None:
    assert failed(Seen(run(result="Failed"), (), (), ()))
    assert not failed(Seen(run(), (), (), ()))
    assert not failed(Seen(workspace(), (), (), ()))


def test_a_run_under_way_says_how_far_it_is() -> None:
    seen = Seen(run(step=4, totalSteps=18, loss=5.9), (), (), ())
    assert explanation(seen) == "step 4 of 18, loss 5.9"
