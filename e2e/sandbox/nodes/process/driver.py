"""Nodes whose pods run as local processes: level 1 without root, with a real model server.

Invariant: a Node is Ready exactly while this driver runs its pods, and no process outlives the
driver, whatever ends it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import structlog

from controlkit.cache import Cache
from controlkit.clock import Clock, SystemClock
from controlkit.errors import ControlError
from controlkit.events import EventRecorder
from controlkit.kube.client import KubeClient
from controlkit.kube.objects import Key
from controlkit.kube.reflector import Reflector
from sandbox.aks.tasks import Tasks
from sandbox.nodes.driver import NodeSpec
from sandbox.nodes.load import DriverOptions
from sandbox.nodes.objects import Kubelet
from sandbox.nodes.patience import until_done
from sandbox.nodes.process.logs import served
from sandbox.nodes.process.pod import PodRunner
from sandbox.nodes.process.views import Pod
from sandbox.nodes.registry import NodeRegistry

log = structlog.get_logger(__name__)

HEARTBEAT_SECONDS: Final = 10.0
FIRST_BACK_OFF: Final = 10.0
NODE_ADDRESS: Final = "127.0.0.1"
"""Where this driver serves the logs of all its nodes."""


class ProcessDriver:
    """A small kubelet for all nodes of the emulator."""

    def __init__(
        self,
        client: KubeClient,
        tasks: Tasks,
        events: EventRecorder,
        *,
        folder: Path,
        python: Path,
        ready_seconds: float,
        log_port: int = 0,
        back_off: float = FIRST_BACK_OFF,
        clock: Clock | None = None,
    ) -> None:
        self.pods = Cache(Pod)
        self.log_port = log_port
        self._client = client
        self._tasks = tasks
        self._events = events
        self._folder = folder
        self._python = python
        self._ready_seconds = ready_seconds
        self._back_off = back_off
        self._clock = clock or SystemClock()
        self._registry = NodeRegistry(client, self._clock)
        self._nodes: dict[str, list[asyncio.Task[None]]] = {}
        self._up: set[str] = set()
        self._silent: set[str] = set()
        self._runners: dict[str, tuple[PodRunner, asyncio.Task[None]]] = {}
        self.pods.subscribe(self._pod_changed)

    async def create(self, spec: NodeSpec) -> None:
        """Creates the Node, unless it is there, and takes over its pods; Ready follows."""
        await self._registry.register(spec, kubelet=Kubelet(NODE_ADDRESS, self.log_port))
        if spec.name in self._nodes:
            return
        self._nodes[spec.name] = [
            self._tasks.start(self._become_ready(spec.name), f"start of {spec.name}"),
            self._tasks.start(self._heartbeat(spec.name), f"heartbeat of {spec.name}"),
        ]
        for pod in self.pods.all():
            self._pod_changed(None, pod)

    async def advertise_gpu(self, spec: NodeSpec) -> None:
        """Adds the GPUs to the Node's status."""
        await self._registry.advertise_gpu(spec)

    async def set_condition(
        self, spec: NodeSpec, condition: str, status: str, reason: str, message: str
    ) -> None:
        """Sets a condition of the Node; one that is not Ready has no heartbeat."""
        if condition == "Ready":
            (self._silent.discard if status == "True" else self._silent.add)(spec.name)
        await self._registry.set_condition(spec.name, condition, status, reason, message)

    async def delete(self, spec: NodeSpec) -> None:
        """Ends the VM: its processes at once, without a word, then its Node."""
        doomed = [*self._nodes.pop(spec.name, [])]
        doomed += [
            task
            for runner, task in self._runners.values()
            if runner.pod.spec.node_name == spec.name
        ]
        for task in doomed:
            task.cancel()
        if doomed:
            await asyncio.wait(doomed)
        self._up.discard(spec.name)
        self._silent.discard(spec.name)
        await self._registry.delete(spec.name)

    async def close(self) -> None:
        """Leaves the Nodes; the processes end with the driver's tasks."""

    def log_of(self, namespace: str, pod: str, container: str, previous: bool) -> Path | None:
        """Returns the log file of a container's run, if there is one."""
        runner = self._runner_of(namespace, pod)
        return None if runner is None else runner.log_of(container, previous=previous)

    def runs(self, namespace: str, pod: str) -> bool:
        """Says whether the pod is still here."""
        return self._runner_of(namespace, pod) is not None

    def _runner_of(self, namespace: str, pod: str) -> PodRunner | None:
        key = Key(namespace, pod)
        found = (runner for runner, _ in self._runners.values() if runner.pod.key == key)
        return next(found, None)

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        pod = new or old
        assert pod is not None
        uid = pod.metadata.uid
        if old is not None and new is not None and old.metadata.uid != new.metadata.uid:
            self._pod_changed(old, None)  # one of the same name took its place
        if uid in self._runners:
            runner, task = self._runners[uid]
            if new is None:
                task.cancel()  # deleted without grace: nothing of it may go on
            else:
                runner.update(new)
        elif new is not None and new.spec.node_name in self._nodes:
            self._start(new)

    def _start(self, pod: Pod) -> None:
        runner = PodRunner(
            pod,
            client=self._client,
            events=self._events,
            folder=self._folder,
            python=self._python,
            node_address=NODE_ADDRESS,
            back_off=self._back_off,
            clock=self._clock,
        )
        uid = pod.metadata.uid
        task = self._tasks.start(runner.run(), f"pod {pod.key}")
        self._runners[uid] = (runner, task)
        task.add_done_callback(lambda _: self._runners.pop(uid, None))
        log.info("pod taken over", pod=str(pod.key), node=pod.spec.node_name)

    async def _become_ready(self, name: str) -> None:
        await self.pods.synced.wait()
        await self._clock.sleep(self._ready_seconds)
        await until_done(self._clock, f"make {name} ready", lambda: self._registry.set_ready(name))
        self._up.add(name)

    async def _heartbeat(self, name: str) -> None:
        while True:
            if name not in self._silent:
                try:
                    await self._registry.renew_lease(name)
                    if name in self._up:  # else an outage would leave it NotReady for good
                        await self._registry.keep_ready(name)
                except ControlError as error:
                    log.warning("heartbeat failed", node=name, why=str(error))
            await self._clock.sleep(HEARTBEAT_SECONDS)


@asynccontextmanager
async def connected(options: DriverOptions) -> AsyncIterator[ProcessDriver]:
    """Connects to the cluster for as long as the context lasts; its end ends all pods' processes.

    Raises:
        controlkit.errors.ControlError: the kubeconfig leads nowhere.
    """
    client = await KubeClient.connect(
        user_agent="sandbox-nodes", field_manager="sandbox-nodes", kubeconfig=options.kubeconfig
    )
    async with client, Tasks() as tasks:
        events = EventRecorder(client, component="kubelet")
        driver = ProcessDriver(
            client,
            tasks,
            events,
            folder=options.folder,
            # As it is named: behind a link is another environment's interpreter.
            python=options.runtime_python.absolute(),
            ready_seconds=options.ready_seconds,
        )
        tasks.start(events.run(), "events")
        tasks.start(Reflector(client, driver.pods).run(), "pods")
        async with served(options.folder, driver.log_of, driver.runs) as driver.log_port:
            yield driver
