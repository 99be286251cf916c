"""Writes what a pass found into the Workspace's status, when that differs from what is there.

Invariant: one write per pass at most, and none when nothing is new; a condition's transition time
moves only with its status.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal

from controlkit.cache import Cache
from controlkit.conditions import set_condition
from controlkit.errors import NotFound
from controlkit.kube.client import KubeClient
from controlkit.kube.objects import Condition
from gpuapis.workspace import ChosenSize, Phase, SlotStatus, Workspace, WorkspaceStatus
from workspace_controller.tuning.facts import as_status
from workspace_controller.workspaces import reasons
from workspace_controller.workspaces.events import Events
from workspace_controller.workspaces.facts import Finding, Report, SlotRecord
from workspace_controller.workspaces.holding import Hold
from workspace_controller.workspaces.phases import READY, with_ready

Status = Literal["True", "False", "Unknown"]
State = Literal["Pending", "Ready", "NotReady", "Running", "Succeeded", "Failed"]

CLAIM_CONDITIONS: Final = {
    "Machine": reasons.MACHINE_READY,
    "NodeClaim": reasons.NODECLAIM_READY,
}


@dataclass(frozen=True)
class Reporter:
    """Publishes reports: the status and the Events that go with it."""

    client: KubeClient
    workspaces: Cache[Workspace]
    events: Events
    hold: Hold

    async def report(
        self,
        workspace: Workspace,
        report: Report,
        now: datetime,
        *,
        instance_type: str,
        phases: tuple[Phase, ...],
        chosen_because: str = "",
    ) -> None:
        """Writes the status if it differs, and announces what has changed.

        Raises:
            ControlError: the write failed; the pass is repeated.
        """
        status = compose(
            workspace,
            report,
            now,
            instance_type=instance_type,
            phases=phases,
            chosen_because=chosen_because,
        )
        if status == workspace.status:
            return
        # The UID refuses the write if a new Workspace has taken the name meanwhile.
        patch = {"metadata": {"uid": workspace.metadata.uid}, "status": _manifest(status)}
        try:
            written = await self.client.merge_patch(
                Workspace.RESOURCE, workspace.key, patch, subresource="status"
            )
        except NotFound:
            return  # the Workspace is gone, and its status with it
        self.hold(workspace.key, self.workspaces, workspace.key, written.resource_version)
        self.events.changes(workspace, report)


def compose(
    workspace: Workspace,
    report: Report,
    now: datetime,
    *,
    instance_type: str,
    phases: tuple[Phase, ...],
    chosen_because: str = "",
) -> WorkspaceStatus:
    """The status that a report makes of the present one; equal to it when nothing is new."""
    old = workspace.status
    conditions = old.conditions
    if report.claims is not None:
        mine = CLAIM_CONDITIONS[report.claim_kind]
        others = set(CLAIM_CONDITIONS.values()) - {mine}
        conditions = tuple(each for each in conditions if each.type not in others)
    if report.claims_gone:
        gone = CLAIM_CONDITIONS.values()
        conditions = tuple(each for each in conditions if each.type not in gone)
    for condition in _conditions(report, workspace.metadata.generation):
        conditions = set_condition(conditions, condition, now)
    update: dict[str, Any] = {
        "conditions": conditions,
        "observed_generation": workspace.metadata.generation,
        "state": _state(old, report),
        "target_node_count": workspace.resource.count,
    }
    if instance_type:
        update["instance_type"] = instance_type
    if chosen_because:
        update["sku"] = ChosenSize(name=instance_type, reason=chosen_because)
    if report.nodes is not None:
        update["worker_nodes"] = report.nodes
    if report.records is not None:
        update["slots"] = tuple(_slot(record) for record in report.records)
    if report.run is not None:
        update["tuning"] = as_status(report.run)
    # What is over has its times; pods and claims that are gone would take them along.
    over = report.run is not None and report.run.result == "Failed"
    if not over and not any(phase.name == READY for phase in old.phases):
        ready = report.workspace.outlook == "good"
        created = workspace.metadata.creation_timestamp or now
        update["phases"] = with_ready(phases, created, now) if ready else phases
    return old.model_copy(update=update)


def _conditions(report: Report, generation: int) -> Iterable[Condition]:
    deleting = report.deleting is not None
    claims = CLAIM_CONDITIONS[report.claim_kind]
    yield from _condition(claims, report.claims, "Unknown", generation)
    yield from _condition(reasons.RESOURCE_READY, report.resource, "False", generation)
    yield from _condition(reasons.INFERENCE_READY, report.inference, "False", generation)
    yield from _condition(reasons.JOB_STARTED, report.started, "False", generation)
    yield from _condition(reasons.WORKSPACE_READY, report.workspace, "False", generation)
    whole = report.workspace if deleting else _succeeded(report.workspace)
    yield from _condition(reasons.WORKSPACE_SUCCEEDED, whole, "False", generation)
    if report.deleting is not None:  # it is, whatever holds it up
        end = replace(report.deleting, outlook="good")
        yield from _condition(reasons.WORKSPACE_DELETING, end, "False", generation)


def _condition(
    kind: str, finding: Finding | None, pending: Status, generation: int
) -> Iterable[Condition]:
    if finding is None:
        return
    statuses: dict[str, Status] = {
        "good": "True",
        "pending": pending,
        "bad": "False",
        "unknown": "Unknown",
    }
    yield Condition(
        type=kind,
        status=statuses[finding.outlook],
        reason=finding.reason,
        message=finding.message,
        observed_generation=generation,
    )


def _succeeded(whole: Finding) -> Finding:
    reason = reasons.SUCCEEDED if whole.outlook == "good" else whole.reason
    return Finding(whole.outlook, reason, whole.message)


def _state(old: WorkspaceStatus, report: Report) -> State | None:
    if report.state is not None:
        return report.state
    if old.tuning is not None:
        return old.state  # what holds up a run says nothing about how far it is
    if report.workspace.outlook == "good":
        return "Ready"
    if old.state == "Ready" and report.workspace.outlook == "unknown":
        return "Ready"
    return "NotReady" if old.state in ("Ready", "NotReady") else "Pending"


def _slot(record: SlotRecord) -> SlotStatus:
    """Absent values stay out, for the API server takes no null in a list."""
    more: dict[str, Any] = {"reason": record.reason, "message": record.message}
    if record.lost_at is not None:
        more["lost_at"] = record.lost_at.replace(microsecond=0)
    return SlotStatus(
        slot=record.slot,
        claim=record.claim,
        attempt=record.attempt,
        failures=record.failures,
        **{name: value for name, value in more.items() if value},
    )


def _manifest(status: WorkspaceStatus) -> dict[str, Any]:
    manifest = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    if status.tuning is not None:  # a merge takes away only what is said to be null
        manifest["tuning"] = status.tuning.model_dump(mode="json", by_alias=True)
    return manifest
