"""Node objects without machines: for kwok, or for controllers that only look at Nodes.

Invariant: a Node is not Ready before its time, and no pod can land on it before; with or without
kwok it passes through the same states.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from controlkit.clock import Clock, SystemClock
from controlkit.kube.client import KubeClient
from sandbox.aks.tasks import Tasks
from sandbox.nodes.driver import NodeSpec
from sandbox.nodes.load import DriverOptions
from sandbox.nodes.patience import until_done
from sandbox.nodes.registry import NodeRegistry

KWOK: Final = {"kwok.x-k8s.io/node": "fake"}
"""What makes kwok keep a Node's heartbeat and move its pods. It is there from the first moment,
because kwok takes on a Node only when it is new; one whose Ready is False it leaves so."""


class SimulatedDriver:
    """Makes Node objects; `ready_seconds` pass between a registered Node and a Ready one."""

    def __init__(
        self,
        registry: NodeRegistry,
        tasks: Tasks,
        *,
        ready_seconds: float,
        clock: Clock | None = None,
    ) -> None:
        self._registry = registry
        self._tasks = tasks
        self._ready_seconds = ready_seconds
        self._clock = clock or SystemClock()
        self._starting: dict[str, asyncio.Task[None]] = {}

    async def create(self, spec: NodeSpec) -> None:
        """Creates the Node, unless it is there; Ready follows."""
        await self._registry.register(spec, annotations=KWOK)
        if spec.name not in self._starting:
            ready = self._become_ready(spec.name)
            self._starting[spec.name] = self._tasks.start(ready, f"start of {spec.name}")

    async def advertise_gpu(self, spec: NodeSpec) -> None:
        """Adds the GPUs to the Node's status."""
        await self._registry.advertise_gpu(spec)

    async def set_condition(
        self, spec: NodeSpec, condition: str, status: str, reason: str, message: str
    ) -> None:
        """Sets a condition of the Node."""
        await self._registry.set_condition(spec.name, condition, status, reason, message)

    async def delete(self, spec: NodeSpec) -> None:
        """Deletes the Node, as AKS does when the VM is gone."""
        starting = self._starting.pop(spec.name, None)
        if starting is not None:
            starting.cancel()
        await self._registry.delete(spec.name)

    async def close(self) -> None:
        """Leaves everything as it is: a Node object needs no process."""

    async def _become_ready(self, name: str) -> None:
        await self._clock.sleep(self._ready_seconds)
        await until_done(
            self._clock,
            f"make {name} ready",
            lambda: self._registry.set_ready(name),
        )


@asynccontextmanager
async def connected(options: DriverOptions) -> AsyncIterator[SimulatedDriver]:
    """Connects to the cluster for as long as the context lasts.

    Raises:
        controlkit.errors.ControlError: the kubeconfig leads nowhere.
    """
    client = await KubeClient.connect(
        user_agent="sandbox-nodes", field_manager="sandbox-nodes", kubeconfig=options.kubeconfig
    )
    async with client, Tasks() as tasks:
        yield SimulatedDriver(NodeRegistry(client), tasks, ready_seconds=options.ready_seconds)
