"""What the controller tells Prometheus about Workspaces, under the names dashboards know.

Invariant: counts are taken from the cache when they are asked for, so they can never drift from
the objects; no object's name is ever a label.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Final

from prometheus_client import Counter as Tally
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from controlkit.cache import Cache
from controlkit.conditions import find
from gpuapis.workspace import Workspace
from workspace_controller.workspaces import reasons

FAILURES: Final = Tally(
    "kaito_workspace_failures_total",
    "What held Workspaces up, by reason, counted when it was announced.",
    ["reason"],
)
PHASES: Final = ("succeeded", "error", "pending", "deleting")
TEMPLATE: Final = "(template)"


class WorkspaceCollector(Collector):
    """Counts Workspaces by phase and by preset."""

    def __init__(self, workspaces: Cache[Workspace]) -> None:
        self._workspaces = workspaces

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The two gauges, as of now."""
        everything = self._workspaces.all()
        phases = Counter(phase(workspace) for workspace in everything)
        presets = Counter(_preset(workspace) for workspace in everything)
        by_phase = GaugeMetricFamily(
            "kaito_workspace_count", "Workspaces, by phase.", labels=["phase"]
        )
        for name in PHASES:
            by_phase.add_metric([name], phases[name])
        by_preset = GaugeMetricFamily(
            "kaito_workspace_preset_count", "Workspaces, by preset.", labels=["preset_name"]
        )
        for name, count in sorted(presets.items()):
            by_preset.add_metric([name], count)
        return [by_phase, by_preset]


def phase(workspace: Workspace) -> str:
    """One of `PHASES`; a Workspace that only needs time is pending, not in error."""
    if workspace.deleting:
        return "deleting"
    ready = find(workspace.status.conditions, reasons.WORKSPACE_READY)
    if ready is not None and ready.status == "True":
        return "succeeded"
    return "error" if ready is not None and ready.reason == reasons.FAILED else "pending"


def _preset(workspace: Workspace) -> str:
    work = workspace.inference or workspace.tuning
    return TEMPLATE if work is None or work.preset is None else work.preset.name
