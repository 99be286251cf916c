"""Asks running trainings how far they are, in a task of its own, through the API server.

Invariant: no pass ever waits for a pod; a training that does not answer costs one call every ten
seconds, bounded in time and number, and nothing else.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from controlkit.clock import Clock
from controlkit.errors import ControlError
from controlkit.kube.client import KubeClient
from controlkit.kube.objects import Key
from gpuapis.core import Pod
from workspace_controller.caches import OWNER, Caches
from workspace_controller.tuning.facts import Progress
from workspace_controller.tuning.last_words import spoken

log = structlog.get_logger(__name__)

PERIOD: Final = 10.0
"""Seconds between two questions to one training, at least."""
PATIENCE: Final = 3.0
"""Seconds until an answer begins, and again until it ends."""
AT_ONCE: Final = 16
MOST: Final = 16 * 1024
"""Bytes of an answer; the image may be the user's own, and answer anything."""


@dataclass
class Heard:
    """What trainings said last, by Workspace."""

    said: dict[Key, Progress] = field(default_factory=dict)

    def of(self, workspace: Key) -> Progress | None:
        """How far a Workspace's training is; None when it has not said."""
        return self.said.get(workspace)


@dataclass(frozen=True)
class ProgressPoller:
    """Keeps `heard` current while `run` runs."""

    client: KubeClient
    caches: Caches
    heard: Heard
    wake: Callable[[Key], None]
    """Has a Workspace looked at."""
    clock: Clock

    async def run(self) -> None:
        """Asks all running trainings every ten seconds, until cancelled."""
        while True:
            await self.turn()
            await self.clock.sleep(PERIOD)

    async def turn(self) -> None:
        """Asks each running training once."""
        running = {
            workspace.key: pod
            for workspace in self.caches.workspaces.all()
            if workspace.tuning is not None
            for pod in self.caches.pods.by_index(OWNER, str(workspace.key))
            if _trains(pod, workspace.key.name)
        }
        for key in self.heard.said.keys() - running.keys():
            del self.heard.said[key]
        gate = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for key, pod in running.items():
                group.create_task(self._ask(gate, key, pod))

    async def _ask(self, gate: asyncio.Semaphore, workspace: Key, pod: Pod) -> None:
        # Without a port, the API server takes the first that the pod declares.
        path = f"{Pod.RESOURCE.path(*pod.key, 'proxy')}/progress"
        try:
            async with gate:
                answer = await self.client.ask(path, most=MOST, timeout=PATIENCE)
        except ControlError as error:
            log.debug("training does not answer", pod=str(pod.key), cause=str(error))
            return
        progress = spoken(answer)
        if progress is not None and progress != self.heard.of(workspace):
            self.heard.said[workspace] = progress
            self.wake(workspace)


def _trains(pod: Pod, container: str) -> bool:
    statuses = pod.status.container_statuses
    running = (each for each in statuses if each.name == container and each.state.running)
    return not pod.deleting and any(running)
