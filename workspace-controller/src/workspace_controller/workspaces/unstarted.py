"""Finds out why a pod that has its node does not start: its Events know, its status does not.

Invariant: Events are read only of pods that have been at it for half a minute, and of each at most
every half minute, so that a healthy cluster is asked nothing.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from controlkit.errors import Blocked, Transient
from controlkit.kube.client import KubeClient
from gpuapis.core import Event, Pod
from workspace_controller.workspaces import reasons
from workspace_controller.workspaces.facts import PodTrouble

GRACE: Final = timedelta(seconds=30)
"""Volumes are mounted within seconds, as a rule."""
REREAD: Final = timedelta(seconds=30)
TELLING: Final = frozenset(
    {"FailedAttachVolume", "FailedCreatePodSandBox", "FailedMapVolume", "FailedMount"}
)
IDLE: Final = frozenset({"ContainerCreating", "PodInitializing"})
MOUNTED: Final = "PodReadyToStartContainers"
REMEDY: Final = (
    "The Secrets, ConfigMaps and volume claims that the Workspace names must exist in its "
    "namespace, with the keys that are expected"
)


@dataclass(frozen=True)
class Unstarted:
    """What keeps pods from starting."""

    troubles: tuple[PodTrouble, ...] = ()
    look_again: float | None = None
    """Seconds until there may be more to say."""


class EventReader:
    """Asks for the Events of pods that do not start."""

    def __init__(self, client: KubeClient, now: Callable[[], datetime]) -> None:
        self._client = client
        self._now = now
        self._heard: dict[str, tuple[datetime, PodTrouble | None]] = {}

    async def explain(self, pods: Iterable[Pod]) -> Unstarted:
        """What the Events of the pods say that have been starting for long."""
        starting = [pod for pod in pods if _is_starting(pod)]
        if not starting:
            return Unstarted()
        now = self._now()
        ages = {pod.metadata.uid: now - (pod.status.start_time or now) for pod in starting}
        found = [await self._hear(pod, now) for pod in starting if ages[pod.metadata.uid] >= GRACE]
        early = [(GRACE - age).total_seconds() for age in ages.values() if age < GRACE]
        return Unstarted(
            tuple(trouble for trouble in found if trouble is not None),
            min((*early, REREAD.total_seconds())),
        )

    async def _hear(self, pod: Pod, now: datetime) -> PodTrouble | None:
        known = self._heard.get(pod.metadata.uid)
        if known is not None and now - known[0] < REREAD:
            return known[1]
        self._heard = {uid: said for uid, said in self._heard.items() if now - said[0] < REREAD}
        trouble = await self._ask(pod)
        self._heard[pod.metadata.uid] = (now, trouble)
        return trouble

    async def _ask(self, pod: Pod) -> PodTrouble | None:
        try:
            found = await self._client.list(
                Event,
                namespace=pod.metadata.namespace,
                field_selector=f"involvedObject.uid={pod.metadata.uid},type=Warning",
            )
        except (Blocked, Transient):
            return None  # there is nothing to add, and what else is to be done does not wait
        telling = [event for event in found.items if event.reason in TELLING]
        # An Event that is told again is written again, so the highest version is the latest.
        latest = max(telling, key=lambda event: int(event.metadata.resource_version), default=None)
        if latest is None:
            return None
        said = " ".join(latest.message.split()).rstrip(".")
        return PodTrouble(
            reasons.VOLUME_MOUNT,
            f"pod {pod.metadata.name} does not start: {latest.reason}: {said}. {REMEDY}.",
        )


def _is_starting(pod: Pod) -> bool:
    """Whether it is on its node, and no container of it can begin yet."""
    if pod.deleting or pod.ready or not pod.spec.node_name:
        return False
    if any(c.type == MOUNTED and c.status == "True" for c in pod.status.conditions):
        return False  # what it said of its volumes is past
    statuses = (*pod.status.init_container_statuses, *pod.status.container_statuses)
    waiting = [status.state.waiting for status in statuses]
    return bool(statuses) and all(each is not None and each.reason in IDLE for each in waiting)
