"""Writes what a pass found into the Workspace's status, when that differs from what is there.

Invariant: one write per pass at most, and none when nothing is new; what has failed, what became
ready and what the next pass must remember is never held back.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from controlkit.cache import Cache
from controlkit.errors import NotFound
from controlkit.kube.client import KubeClient
from controlkit.kube.objects import Key
from gpuapis.workspace import Workspace, WorkspaceStatus
from workspace_controller.workspaces.composing import Particulars, compose
from workspace_controller.workspaces.events import Events
from workspace_controller.workspaces.facts import Report
from workspace_controller.workspaces.holding import Hold

WINDOW: Final = 2.0
"""Seconds within which a step that is only on the way is not written after another write."""
REMEMBERED: Final = 4096
"""Workspaces whose last write is remembered; a forgotten one is written at once."""


@dataclass(frozen=True)
class Reporter:
    """Publishes reports: the status and the Events that go with it."""

    client: KubeClient
    workspaces: Cache[Workspace]
    events: Events
    hold: Hold
    monotonic: Callable[[], float]
    written: OrderedDict[Key, float] = field(default_factory=OrderedDict)
    """When each Workspace's status was last written."""

    async def report(
        self, workspace: Workspace, report: Report, now: datetime, particulars: Particulars
    ) -> float | None:
        """Writes the status if it differs, and announces what has changed.

        Returns:
            Seconds after which to report again, for a step that can wait; None when all is told.

        Raises:
            ControlError: the write failed; the pass is repeated.
        """
        status = compose(workspace, report, now, particulars)
        if not _differs(workspace.status, status):
            return None
        wait = self.written.get(workspace.key, float("-inf")) + WINDOW - self.monotonic()
        if wait > 0 and not _urgent(workspace.status, status, report):
            return wait
        # The UID refuses the write if a new Workspace has taken the name meanwhile.
        patch = {"metadata": {"uid": workspace.metadata.uid}, "status": _manifest(status)}
        try:
            written = await self.client.merge_patch(
                Workspace.RESOURCE, workspace.key, patch, subresource="status"
            )
        except NotFound:
            return None  # the Workspace is gone, and its status with it
        self._note(workspace.key)
        self.hold(workspace.key, self.workspaces, workspace.key, written.resource_version)
        self.events.changes(workspace, report)
        return None

    def _note(self, key: Key) -> None:
        self.written[key] = self.monotonic()
        self.written.move_to_end(key)
        if len(self.written) > REMEMBERED:
            self.written.popitem(last=False)


def _differs(old: WorkspaceStatus, new: WorkspaceStatus) -> bool:
    """Whether there is anything to write; that another step is over goes with the next news."""
    return new.model_copy(update={"phases": old.phases}) != old


def _urgent(old: WorkspaceStatus, new: WorkspaceStatus, report: Report) -> bool:
    """Whether a person or the next pass must have this now.

    What is left is the text of a step that is under way, and the history.
    """
    aspects = (
        report.workspace,
        report.claims,
        report.resource,
        report.inference,
        report.started,
        report.deleting,
    )
    failures = {
        aspect.message
        for aspect in aspects
        if aspect is not None and aspect.outlook in ("bad", "unknown")
    }
    known = {condition.message for condition in old.conditions}
    return _outline(old) != _outline(new) or not failures <= known


def _outline(status: WorkspaceStatus) -> tuple[Any, ...]:
    conditions = [(each.type, each.status, each.reason) for each in status.conditions]
    run = status.tuning and (status.tuning.finished_at, status.tuning.resource_released)
    place = (status.slots, status.worker_nodes, status.observed_generation)
    return conditions, status.state, run, place


def _manifest(status: WorkspaceStatus) -> dict[str, Any]:
    manifest = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    if status.tuning is not None:  # a merge takes away only what is said to be null
        manifest["tuning"] = status.tuning.model_dump(mode="json", by_alias=True)
    return manifest
