"""The status of a pod, as a kubelet would report it.

Invariant: pure; from the states of the containers to the `status` that the API server stores.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from sandbox.nodes.objects import Manifest, condition, stamp, with_condition
from sandbox.nodes.process.views import Container, Pod


@dataclass(frozen=True)
class Exit:
    """How a container ended."""

    code: int
    started: datetime
    finished: datetime
    message: str = ""
    signal: int = 0

    @property
    def reason(self) -> str:
        """The word that kubectl shows."""
        return "Completed" if self.code == 0 else "Error"


@dataclass(frozen=True)
class State:
    """How a container is: it waits, runs or has ended."""

    container: Container
    waiting: tuple[str, str] = ("ContainerCreating", "")
    """Reason and message, while neither running nor ended for good."""
    running: datetime | None = None
    ended: Exit | None = None
    last: Exit | None = None
    restarts: int = 0
    started: bool = False
    """Whether the startup probe has succeeded."""
    ready: bool = False

    def starts(self, now: datetime) -> "State":
        """It was started."""
        return replace(self, running=now, ended=None, started=False, ready=False)

    def ends(self, how: Exit) -> "State":
        """It ended, perhaps to be started again."""
        return replace(self, running=None, ended=how, started=False, ready=False)

    def waits(self, reason: str, message: str) -> "State":
        """It is not started yet, or not yet again."""
        last = self.ended or self.last
        return replace(self, waiting=(reason, message), running=None, ended=None, last=last)

    def flagged(self, *, started: bool, ready: bool) -> "State":
        """Its probes gave another verdict."""
        return replace(self, started=started, ready=ready)

    def restarted(self) -> "State":
        """It is about to be started again."""
        return replace(self, restarts=self.restarts + 1, last=self.ended or self.last, ended=None)

    def manifest(self) -> Manifest:
        """Returns its entry in containerStatuses."""
        name = self.container.name
        return {
            "name": name,
            "image": self.container.image,
            "imageID": self.container.image,
            "containerID": f"process://{name}/{self.restarts}" if self._existed else "",
            "restartCount": self.restarts,
            "started": self.started,
            "ready": self.ready,
            "state": self._state(),
            "lastState": {} if self.last is None else {"terminated": _terminated(self.last)},
        }

    @property
    def _existed(self) -> bool:
        return bool(self.running or self.ended or self.last)

    def _state(self) -> Manifest:
        if self.running is not None:
            return {"running": {"startedAt": stamp(self.running)}}
        if self.ended is not None:
            return {"terminated": _terminated(self.ended)}
        reason, message = self.waiting
        return {"waiting": {"reason": reason, **({"message": message} if message else {})}}


@dataclass(frozen=True)
class PodState:
    """What the driver knows of a pod."""

    pod: Pod
    address: str
    node_address: str
    began: datetime
    containers: tuple[State, ...] = field(default=())

    @property
    def phase(self) -> Literal["Pending", "Running", "Succeeded", "Failed"]:
        """The pod's phase."""
        states, policy = self.containers, self.pod.spec.restart_policy
        done = [state.ended for state in states if state.ended is not None]
        final = len(done) == len(states) and (policy != "Always" or self.pod.deleting)
        if final and all(how.code == 0 for how in done):
            return "Succeeded"
        if final and (policy == "Never" or self.pod.deleting):
            return "Failed"
        born = all(state.running or state.ended or state.last for state in states)
        return "Running" if born else "Pending"

    def manifest(self, present: Sequence[Manifest], now: datetime) -> dict[str, Any]:
        """Returns the status; `present` are the conditions that the pod has."""
        conditions: list[Manifest] = list(present)
        for kind, holds in self._conditions().items():
            why = ("", "") if holds else self._why_not_ready(kind)
            changed = condition(kind, "True" if holds else "False", *why, now)
            conditions = with_condition(conditions, changed)
        return {
            "phase": self.phase,
            "conditions": conditions,
            "hostIP": self.node_address,
            "hostIPs": [{"ip": self.node_address}],
            "podIP": self.address,
            "podIPs": [{"ip": self.address}],
            "startTime": stamp(self.began),
            "containerStatuses": [state.manifest() for state in self.containers],
        }

    def _conditions(self) -> dict[str, bool]:
        ready = all(state.ready for state in self.containers)
        return {
            "PodReadyToStartContainers": True,
            "Initialized": True,
            "ContainersReady": ready,
            "Ready": ready,
        }

    def _why_not_ready(self, kind: str) -> tuple[str, str]:
        if self.phase == "Succeeded":
            return "PodCompleted", ""
        names = " ".join(state.container.name for state in self.containers if not state.ready)
        text = f"containers with unready status: [{names}]"
        return ("ContainersNotReady", text) if kind.endswith("Ready") else ("", "")


def _terminated(how: Exit) -> Manifest:
    return {
        "exitCode": how.code,
        "reason": how.reason,
        "startedAt": stamp(how.started),
        "finishedAt": stamp(how.finished),
        **({"message": how.message} if how.message else {}),
        **({"signal": how.signal} if how.signal else {}),
    }
