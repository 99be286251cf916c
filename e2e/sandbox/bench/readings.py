"""Notes when each Workspace and claim reaches each state, and what the controller costs meanwhile."""

import asyncio
import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from controlkit.cache import Cache
from gpuapis.workspace import Workspace
from sandbox.bench.fulfiller import AnyClaim, Claims

CONDITIONS = ("ResourceReady", "WorkspaceReady")


@dataclass
class Readings:
    """Seconds from the start at which something was first seen, by object."""

    total: int
    started: float = 0.0
    claims: dict[str, float] = field(default_factory=dict)
    reached: dict[str, dict[str, float]] = field(
        default_factory=lambda: {condition: {} for condition in CONDITIONS}
    )

    def __post_init__(self) -> None:
        self.done = asyncio.Event()

    def start(self) -> None:
        """Sets the clock to zero."""
        self.started = asyncio.get_running_loop().time()

    def follow(self, workspaces: Cache[Workspace], claims: Claims) -> None:
        """Takes notes of what these caches show from now on."""
        workspaces.subscribe(self._workspace)
        claims.subscribe(self._claim)

    def _now(self) -> float:
        return asyncio.get_running_loop().time() - self.started

    def _claim(self, _: AnyClaim | None, new: AnyClaim | None) -> None:
        if new is not None:
            self.claims.setdefault(new.metadata.name, self._now())

    def _workspace(self, _: Workspace | None, new: Workspace | None) -> None:
        if new is None:
            return
        for condition in new.status.conditions:
            if condition.type in self.reached and condition.status == "True":
                self.reached[condition.type].setdefault(str(new.key), self._now())
        if len(self.reached["WorkspaceReady"]) == self.total:
            self.done.set()


@dataclass(frozen=True)
class Cost:
    """What a process took: its highest resident memory so far in MB, and its CPU seconds so far."""

    rss_peak: float
    cpu: float

    @classmethod
    def of(cls, pid: int) -> "Cost":
        """Reads the kernel's own counters, so no peak between two samples is missed."""
        status = Path(f"/proc/{pid}/status").read_text()
        peak = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        times = psutil.Process(pid).cpu_times()
        return cls(int(peak.split()[1]) / 1024, times.user + times.system)


def report(
    readings: Readings, applied: float, before: Cost, after: Cost, written: Counter[str]
) -> str:
    """The table of a storm, one figure a line."""
    rows = {
        "Workspaces applied": f"{readings.total} within {applied:.1f} s",
        "claims created p50 / max": _spread(readings.claims, readings.total),
        "ResourceReady p50 / max": _spread(readings.reached["ResourceReady"], readings.total),
        "Ready p50 / max": _spread(readings.reached["WorkspaceReady"], readings.total),
        "surplus claims": str(len(readings.claims) - readings.total),
        "controller RSS peak": f"{after.rss_peak:.0f} MB",
        "controller CPU": f"{after.cpu - before.cpu:.1f} s",
        "status writes, each": _average(written["workspaces/status"], readings.total),
        "Events, each, of all": _average(written["events"], readings.total),
    }
    return "\n".join(f"{name:<24}  {value}" for name, value in rows.items())


def _average(number: int, total: int) -> str:
    return f"{number / total:.1f}"


def _spread(reached: Mapping[str, float], total: int) -> str:
    if not reached:
        return f"none of {total}"
    moments = list(reached.values())
    text = f"{statistics.median(moments):.1f} s / {max(moments):.1f} s"
    return text if len(moments) >= total else f"{text}, but only {len(moments)} of {total}"
