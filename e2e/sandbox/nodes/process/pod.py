"""The life of one pod on this machine, from the bound pod to the deleted one.

Invariant: a pod's processes never outlive its runner, its status is what the processes really did,
and a pod that was asked to go is gone from the API server only after its processes are.
"""

import asyncio
import base64
import shutil
from pathlib import Path
from typing import Final

from controlkit.clock import Clock
from controlkit.errors import NotFound
from controlkit.events import EventRecorder
from controlkit.kube.client import KubeClient
from sandbox.nodes.objects import Manifest
from sandbox.nodes.patience import until_done
from sandbox.nodes.process.addresses import pod_address
from sandbox.nodes.process.container import ContainerRunner, Surroundings
from sandbox.nodes.process.launch import Launch, Place, Refusal, launch, refusal, secret_keys
from sandbox.nodes.process.probing import Prober
from sandbox.nodes.process.status import PodState, State
from sandbox.nodes.process.views import Container, Pod
from sandbox.nodes.rewriting import rewrite
from sandbox.processes import clean_environment

LOG_ANNOTATION: Final = "sandbox/log-file"


class PodRunner:
    """Runs one pod."""

    def __init__(
        self,
        pod: Pod,
        *,
        client: KubeClient,
        events: EventRecorder,
        folder: Path,
        python: Path,
        node_address: str,
        back_off: float,
        clock: Clock,
    ) -> None:
        self.pod = pod
        self._client = client
        self._events = events
        self._python = python
        self._node_address = node_address
        self._back_off = back_off
        self._clock = clock
        self._address = pod_address(pod.metadata.uid)
        self._folder = folder / "pods" / pod.metadata.uid
        self._logs = folder / "logs" / f"{pod.metadata.namespace}_{pod.metadata.name}"
        self._stop = asyncio.Event()
        self._changed = asyncio.Event()
        self._began = clock.now()
        self._states: dict[str, State] = {}
        self.update(pod)

    def update(self, pod: Pod) -> None:
        """Takes a newer version of the pod in."""
        self.pod = pod
        if pod.deleting:
            self._stop.set()

    async def run(self) -> None:
        """Runs the pod to its end: until it was deleted and is gone."""
        if not self.pod.ended:
            try:
                await self._run_containers()
            finally:
                shutil.rmtree(self._folder, ignore_errors=True)
            await until_done(self._clock, f"last status of {self.pod.key}", self._report)
        await self._stop.wait()
        await until_done(self._clock, f"end of {self.pod.key}", self._release)

    async def _run_containers(self) -> None:
        prober = Prober(self._address, self._clock)
        try:
            async with asyncio.TaskGroup() as group:
                reports = group.create_task(self._keep_reporting())
                async with asyncio.TaskGroup() as containers:
                    for container in self.pod.spec.containers:
                        runner = self._runner(container, prober)
                        self._states[container.name] = runner.state
                        containers.create_task(runner.run())
                reports.cancel()
        finally:
            await prober.close()

    def _runner(self, container: Container, prober: Prober) -> ContainerRunner:
        known = {item.name: item.restart_count for item in self.pod.status.container_statuses}
        # A pod that this driver's predecessor ran is started once more, as after a reboot.
        restarts = known[container.name] + 1 if container.name in known else 0
        around = Surroundings(
            launch=self._launch,
            log=self._log,
            last_words=self._folder / f"{container.name}.last-words",
            stop=self._stop,
            grace=lambda: float(self.pod.grace_seconds),
            changed=self._note,
            event=lambda kind, reason, text: self._events.event(self.pod, kind, reason, text),
            prober=prober,
            clock=self._clock,
            first_back_off=self._back_off,
        )
        return ContainerRunner(self.pod, container, around, restarts=restarts)

    def _log(self, container: Container, number: int) -> Path:
        return self._logs / f"{container.name}.{number}.log"

    def log_of(self, container: str, *, previous: bool) -> Path | None:
        """Returns the log file of a container's present or previous run, if there is one."""
        state = self._states.get(container)
        if state is None:
            return None
        path = self._log(state.container, state.restarts - previous)
        return path if path.exists() else None

    def _note(self, state: State) -> None:
        self._states[state.container.name] = state
        self._changed.set()

    async def _launch(self, container: Container) -> Launch | Refusal:
        refused = refusal(self.pod, container, self._python)
        if refused is not None:
            return refused
        secrets: dict[tuple[str, str], str] = {}
        for name, key, optional in secret_keys(container):
            value = await self._secret(name, key)
            if value is not None:
                secrets[name, key] = value
            elif not optional:
                text = f'secret "{name}" with a key "{key}" not found'
                return Refusal("CreateContainerConfigError", text)
        place = self._place(container)
        return launch(self.pod, container, place, clean_environment(), secrets)

    def _place(self, container: Container) -> Place:
        folders = {volume.name: self._folder / volume.name for volume in self.pod.spec.volumes}
        for path in folders.values():
            path.mkdir(parents=True, exist_ok=True)
        return Place(
            python=self._python,
            address=self._address,
            node_address=self._node_address,
            folders=folders,
            termination_log=self._folder / f"{container.name}.last-words",
        )

    async def _secret(self, name: str, key: str) -> str | None:
        path = f"/api/v1/namespaces/{self.pod.metadata.namespace}/secrets/{name}"
        try:
            data = (await self._client.read(path)).get("data") or {}
        except NotFound:
            return None
        return base64.b64decode(data[key]).decode() if key in data else None

    async def _keep_reporting(self) -> None:
        self._changed.set()
        while True:
            await self._changed.wait()
            self._changed.clear()
            await until_done(self._clock, f"status of {self.pod.key}", self._report)

    async def _report(self) -> None:
        state = PodState(
            self.pod,
            self._address,
            self._node_address,
            self._began,
            tuple(self._states.values()),
        )

        def status(present: Manifest) -> Manifest:
            conditions = present.get("status", {}).get("conditions", [])
            return {"status": state.manifest(conditions, self._clock.now())}

        await rewrite(self._client, Pod.RESOURCE, self.pod.key, status, subresource="status")
        logs = [str(self._log(item.container, item.restarts)) for item in state.containers]
        if self.pod.metadata.annotations.get(LOG_ANNOTATION) != ",".join(logs):
            note = {"metadata": {"annotations": {LOG_ANNOTATION: ",".join(logs)}}}
            await rewrite(self._client, Pod.RESOURCE, self.pod.key, lambda _: note)

    async def _release(self) -> None:
        """Says that all has ended here; now the API server forgets the pod."""
        await self._client.delete(
            Pod.RESOURCE, self.pod.key, uid=self.pod.metadata.uid, grace_seconds=0
        )
