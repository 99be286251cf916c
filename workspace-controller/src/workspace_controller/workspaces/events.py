"""The Events of a Workspace: what a person watching it with `kubectl describe` wants to know.

Invariant: one Event per cause. A failure is announced by the condition nearest to it, not again by
the conditions that sum it up.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from controlkit.conditions import find
from controlkit.events import EventRecorder
from controlkit.kube.objects import Condition
from gpuapis.workspace import Workspace
from workspace_controller.workspaces import reasons
from workspace_controller.workspaces.facts import Claim, Finding, Report


@dataclass(frozen=True)
class Events:
    """Records Events; never blocks and never fails."""

    recorder: EventRecorder

    def claim_created(self, about: Workspace, kind: str, name: str, instance_type: str) -> None:
        """A node has been asked for, and from now on it may cost money."""
        message = f"created {kind} {name} for one {instance_type}"
        self.recorder.event(about, "Normal", f"{kind}Created", message)

    def claims_deleted(self, about: Workspace, claims: Iterable[Claim]) -> None:
        """Nodes are being given up."""
        for claim in claims:
            message = f"deleted {claim.kind} {claim.name} of slot {claim.slot}"
            self.recorder.event(about, "Normal", f"{claim.kind}Deleted", message)

    def node_reserved(self, about: Workspace, name: str) -> None:
        """An existing node is used instead of a new one."""
        self.recorder.event(about, "Normal", "NodeReserved", f"uses the existing node {name}")

    def changes(self, about: Workspace, report: Report) -> None:
        """What has newly gone well or wrong, by comparison with the Workspace's conditions."""
        for kind, type_, finding in _announcements(report, about.status.conditions):
            message = finding.message or f"{kind} is True"
            self.recorder.event(
                about, "Warning" if type_ == "Warning" else "Normal", finding.reason, message
            )


def _announcements(
    report: Report, conditions: tuple[Condition, ...]
) -> Iterable[tuple[str, str, Finding]]:
    claims = reasons.MACHINE_READY if report.claim_kind == "Machine" else reasons.NODECLAIM_READY
    aspects = (
        (claims, report.claims),
        (reasons.RESOURCE_READY, report.resource),
        (reasons.INFERENCE_READY, report.inference),
        (reasons.JOB_STARTED, report.started),
        (reasons.WORKSPACE_DELETING, report.deleting),
    )
    announced: set[str] = set()
    for kind, finding in aspects:
        quiet = finding is None or finding.outlook in ("pending", "unknown")
        if finding is None or quiet or finding.message in announced:
            continue
        before = find(conditions, kind)
        good = finding.outlook == "good" or finding is report.deleting
        status = "True" if good else "False"
        if before is None or (before.status, before.reason) != (status, finding.reason):
            late = finding.reason == reasons.DELETION_DELAYED
            yield kind, "Warning" if finding.outlook == "bad" or late else "Normal", finding
        announced.add(finding.message)
