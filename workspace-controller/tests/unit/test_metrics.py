"""What is counted, and under which name."""

from typing import Any

import pytest

from controlkit.cache import Cache
from gpuapis.workspace import Workspace
from workspace_controller.workspaces.metrics import WorkspaceCollector


def workspace(
    name: str, ready: tuple[str, str] | None = None, preset: str | None = "falcon-7b", **meta: Any
) -> Workspace:
    conditions = []
    if ready is not None:
        conditions = [{"type": "WorkspaceReady", "status": ready[0], "reason": ready[1]}]
    inference: dict[str, Any] = {"preset": {"name": preset}} if preset else {"template": {}}
    return Workspace.model_validate(
        {
            "metadata": {"name": name, "namespace": "n", **meta},
            "resource": {"labelSelector": {}},
            "inference": inference,
            "status": {"conditions": conditions},
        }
    )


@pytest.mark.parametrize(
    ("seen", "phase", "preset"),
    [
        (workspace("a"), "pending", "falcon-7b"),
        (workspace("a", ("True", "workspaceReady")), "succeeded", "falcon-7b"),
        (workspace("a", ("False", "workspacePending")), "pending", "falcon-7b"),
        (workspace("a", ("False", "workspaceFailed")), "error", "falcon-7b"),
        (workspace("a", deletionTimestamp="2026-01-01T00:00:00Z"), "deleting", "falcon-7b"),
        (workspace("a", preset=None), "pending", "(template)"),
    ],
)
def test_workspaces_are_counted_by_phase_and_preset(
    seen: Workspace, phase: str, preset: str
) -> None:
    cache = Cache(Workspace)
    cache.replace([seen], "1")
    counted = {
        (family.name, next(iter(sample.labels.values()))): sample.value
        for family in WorkspaceCollector(cache).collect()
        for sample in family.samples
    }
    others = {"succeeded", "error", "pending", "deleting"} - {phase}
    assert counted == {
        ("kaito_workspace_count", phase): 1.0,
        **{("kaito_workspace_count", other): 0.0 for other in others},
        ("kaito_workspace_preset_count", preset): 1.0,
    }
