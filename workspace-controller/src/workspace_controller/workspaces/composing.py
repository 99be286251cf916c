"""Makes the new status of a report and the old status: pure, and equal to the old if nothing is new.

Invariant: a condition's transition time moves only with its status; a part that a report does not
speak of stays as it is.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal

from controlkit.conditions import set_condition
from controlkit.kube.objects import Condition
from gpuapis.workspace import (
    AttemptStatus,
    ChosenSize,
    Phase,
    SlotStatus,
    Workspace,
    WorkspaceStatus,
)
from workspace_controller.tuning.facts import as_status
from workspace_controller.workspaces import reasons
from workspace_controller.workspaces.facts import Attempt, Finding, Report, SlotRecord
from workspace_controller.workspaces.phases import TOTAL

Status = Literal["True", "False", "Unknown"]
State = Literal["Pending", "Ready", "NotReady", "Running", "Succeeded", "Failed"]

CLAIM_CONDITIONS: Final = {
    "Machine": reasons.MACHINE_READY,
    "NodeClaim": reasons.NODECLAIM_READY,
}


@dataclass(frozen=True)
class Particulars:
    """What a status tells beside the report's conditions."""

    phases: tuple[Phase, ...] = ()
    """The steps that are over."""
    finished: tuple[Phase, ...] = ()
    """The same with the last ones, for a Workspace that is ready for the first time."""
    instance_type: str = ""
    """The size in use; "" to leave it."""
    chosen_because: str = ""
    """Why this size was chosen; "" where it was not, or the choice is older."""


def compose(
    workspace: Workspace, report: Report, now: datetime, particulars: Particulars
) -> WorkspaceStatus:
    """The status that a report makes of the present one."""
    old = workspace.status
    update: dict[str, Any] = {
        "conditions": _all_conditions(workspace, report, now),
        "observed_generation": _answered(workspace, report),
        "state": _state(old, report),
        "target_node_count": workspace.resource.count,
        "phases": _phases(old, report, particulars),
    }
    if particulars.instance_type:
        update["instance_type"] = particulars.instance_type
    if particulars.chosen_because:
        update["sku"] = ChosenSize(
            name=particulars.instance_type, reason=particulars.chosen_because
        )
    if report.nodes is not None:
        update["worker_nodes"] = report.nodes
    if report.records is not None:
        update["slots"] = tuple(_slot(record) for record in report.records)
    if report.attempts is not None:
        update["attempts"] = tuple(_attempt(each) for each in report.attempts)
    if report.run is not None:
        update["tuning"] = as_status(report.run)
    return old.model_copy(update=update)


def _phases(old: WorkspaceStatus, report: Report, particulars: Particulars) -> tuple[Phase, ...]:
    """What is over has its times; pods and claims that are gone would take them along."""
    failed = report.run is not None and report.run.result == "Failed"
    if failed or any(phase.name == TOTAL for phase in old.phases):
        return old.phases
    good = report.workspace.outlook == "good"
    return particulars.finished if good else particulars.phases


def _all_conditions(workspace: Workspace, report: Report, now: datetime) -> tuple[Condition, ...]:
    """The old conditions with those of the report, less those of claims that there are not."""
    absent: set[str] = set()
    if report.claims is not None:
        absent = set(CLAIM_CONDITIONS.values()) - {CLAIM_CONDITIONS[report.claim_kind]}
    if report.claims_gone:
        absent = set(CLAIM_CONDITIONS.values())
    kept = tuple(each for each in workspace.status.conditions if each.type not in absent)
    for condition in _conditions(report, _answered(workspace, report)):
        kept = set_condition(kept, condition, now)
    return kept


def _answered(workspace: Workspace, report: Report) -> int | None:
    """The generation of the spec that the report answers to."""
    return workspace.status.observed_generation if report.unseen else workspace.metadata.generation


def _conditions(report: Report, generation: int | None) -> Iterable[Condition]:
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
    kind: str, finding: Finding | None, pending: Status, generation: int | None
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
    """The same in the words of later releases; what is the matter is told once."""
    if whole.outlook == "good":
        return Finding("good", reasons.SUCCEEDED, whole.message)
    return Finding(whole.outlook, whole.reason, f"see {reasons.WORKSPACE_READY}")


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
    more: dict[str, Any] = {
        "retries": record.retries,
        "failing": record.failing,
        "reason": record.reason,
        "message": record.message,
    }
    if record.lost_at is not None:
        more["lost_at"] = record.lost_at.replace(microsecond=0)
    return SlotStatus(
        slot=record.slot,
        claim=record.claim,
        attempt=record.attempt,
        failures=record.failures,
        **{name: value for name, value in more.items() if value},
    )


def _attempt(attempt: Attempt) -> AttemptStatus:
    """As for slots: no null, and whole seconds."""
    more: dict[str, Any] = {
        "sku": attempt.sku,
        "reason": attempt.reason,
        "message": attempt.message,
    }
    if attempt.ended_at is not None:
        more["ended_at"] = attempt.ended_at.replace(microsecond=0)
    return AttemptStatus(
        slot=attempt.slot,
        claim=attempt.claim,
        started_at=attempt.started_at.replace(microsecond=0),
        **{name: value for name, value in more.items() if value},
    )
