"""The Events of a Workspace: what a person watching it with `kubectl describe` wants to know.

Invariant: one Event, and one line in the log, per cause. A failure is announced by the condition
nearest to it, a success by the condition that sums it up, and neither again by the others.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import structlog

from controlkit.conditions import find
from controlkit.events import EventRecorder
from controlkit.kube.objects import Condition
from gpuapis.workspace import Workspace
from workspace_controller.workspaces import reasons
from workspace_controller.workspaces.facts import Claim, Finding, Report
from workspace_controller.workspaces.metrics import FAILURES

log = structlog.get_logger(__name__)

NAMED = 5
"""How many claims one Event names; the rest are counted."""


@dataclass(frozen=True)
class Events:
    """Records Events; never blocks and never fails."""

    recorder: EventRecorder

    def claims_created(
        self, about: Workspace, kind: str, names: Sequence[str], instance_type: str
    ) -> None:
        """Nodes have been asked for, and from now on they may cost money."""
        each = f"one {instance_type}" + (" each" if len(names) > 1 else "")
        message = f"created {_listed(kind, names)} for {each}"
        self.recorder.event(about, "Normal", f"{kind}Created", message)

    def claims_deleted(self, about: Workspace, claims: Sequence[Claim]) -> None:
        """Nodes are being given up."""
        for kind in sorted({claim.kind for claim in claims}):
            names = [claim.name for claim in claims if claim.kind == kind]
            message = f"deleted {_listed(kind, names)}"
            self.recorder.event(about, "Normal", f"{kind}Deleted", message)

    def node_reserved(self, about: Workspace, name: str) -> None:
        """An existing node is used instead of a new one."""
        self.recorder.event(about, "Normal", "NodeReserved", f"uses the existing node {name}")

    def changes(self, about: Workspace, report: Report) -> None:
        """What has newly gone well or wrong, by comparison with the Workspace's conditions."""
        for kind, warns, finding in _announcements(report, about.status.conditions):
            message = finding.event or finding.message or f"{kind} is True"
            if warns:
                self.recorder.event(about, "Warning", finding.reason, message)
                FAILURES.labels(finding.reason).inc()
                log.warning("workspace held up", aspect=kind, reason=finding.reason, cause=message)
            else:
                self.recorder.event(about, "Normal", finding.reason, message)
                log.info("workspace advanced", aspect=kind, reason=finding.reason, detail=message)


def _listed(kind: str, names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{kind}{'s' if len(names) > 1 else ''} {', '.join(names[:NAMED])}{more}"


def _announcements(
    report: Report, conditions: tuple[Condition, ...]
) -> Iterable[tuple[str, bool, Finding]]:
    """What to announce: the condition, whether it is a warning, and what it says."""
    claims = reasons.MACHINE_READY if report.claim_kind == "Machine" else reasons.NODECLAIM_READY
    aspects = (
        (claims, report.claims),
        (reasons.RESOURCE_READY, report.resource),
        (reasons.INFERENCE_READY, report.inference),
        (reasons.JOB_STARTED, report.started),
        (reasons.WORKSPACE_DELETING, report.deleting),
    )
    told: set[str] = set()
    for kind, finding in aspects:
        if finding is None or finding.outlook in ("pending", "unknown"):
            continue
        good = finding.outlook == "good"
        words = {finding.reason, finding.message} - {""}
        if (good and kind == claims) or words & told:
            continue
        told |= words
        status = "True" if good or finding is report.deleting else "False"
        before = find(conditions, kind)
        if before is None or (before.status, before.reason) != (status, finding.reason):
            yield kind, not good or finding.reason == reasons.DELETION_DELAYED, finding
