"""A whole provisioner in virtual time, over an API server and agent pools in memory.

Invariant: a process may end before any of its actions, and the next one finds the world as it was.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from controlkit.cache import Cache
from controlkit.events import EventRecorder
from controlkit.kube.objects import Key
from controlkit.kube.reflector import Reflector
from controlkit_testing import FakeClock, MemoryApi
from gpu_provisioner.azure.gateway import Gateway
from gpu_provisioner.binding import pool_of
from gpu_provisioner.claims.actions import Action, Policy
from gpu_provisioner.claims.controller import ClaimController
from gpu_provisioner.claims.execute import Executor, Work
from gpu_provisioner.claims.machine import MachineDialect
from gpu_provisioner.claims.observe import BY_POOL, Observer
from gpu_provisioner.claims.refusals import Refusals
from gpuapis.core import Node
from gpuapis.labels import AGENT_POOL, INSTANCE_TYPE, WORKSPACE
from gpuapis.machine import Machine
from provisioner_world.builders import NAME, SIZE
from provisioner_world.memory_pools import MemoryPools

KEY = Key("", NAME)
NODE = Key("", "node-1")


class Crash(Exception):
    """The process ends here."""


class FragileExecutor(Executor):
    """Ends the process before its n-th action."""

    left = 10**6

    async def carry_out(self, work: Work, action: Action) -> None:
        if self.left == 0:
            raise Crash
        self.left -= 1
        await super().carry_out(work, action)


class Told(EventRecorder):
    """Keeps what is recorded."""

    def __init__(self, api: MemoryApi) -> None:
        super().__init__(api.client(), component="test")
        self.said: list[tuple[str, str]] = []

    def event(self, about: Any, type: Any, reason: str, message: str) -> None:  # noqa: A002
        self.said.append((type, reason))


@dataclass
class Rig:
    """One process after another on the same world."""

    api: MemoryApi = field(default_factory=MemoryApi)
    pools: MemoryPools = field(default_factory=MemoryPools)
    clock: FakeClock = field(default_factory=FakeClock)
    policy: Policy = field(default_factory=Policy)
    failures: list[BaseException] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.events = Told(self.api)

    @asynccontextmanager
    async def process(self, actions: int = 10**6) -> AsyncIterator[None]:
        """Runs the controller, for so many actions at most; a crash ends it alone."""
        client = self.api.client()
        machines = Cache(Machine)
        nodes: Cache[Node] = Cache(Node, indexes={BY_POOL: lambda node: (pool_of(node),)})
        gateway, refusals = Gateway(self.pools, self.clock), Refusals(self.clock)
        self.gateway = gateway
        executor = FragileExecutor(client, gateway, refusals, self.events)
        executor.left = actions
        dialect = MachineDialect()
        self.executor = executor
        controller = self.controller = ClaimController(
            dialect,
            machines,
            nodes,
            observer=Observer(
                client=client,
                nodes=nodes,
                directory=gateway.directory,
                refusals=refusals,
                policy=self.policy,
                clock=self.clock,
            ),
            executor=executor,
            gateway=gateway,
            refusals=refusals,
            clock=self.clock,
        )
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(part)
                for part in (
                    Reflector(client, machines, clock=self.clock).run(),
                    Reflector(client, nodes, clock=self.clock).run(),
                    gateway.directory.run(),
                    controller.run(),
                )
            ]
            await self.clock.advance(0)
            yield
            for task in tasks:
                task.cancel()

    def create(self, **spec: Any) -> None:
        usual = {
            "requirements": [{"key": INSTANCE_TYPE, "operator": "In", "values": [SIZE]}],
            "resources": {"requests": {"nvidia.com/gpu": "1"}},
        }
        meta = {"name": NAME, "uid": "uid-1", "labels": {WORKSPACE: "phi-3"}, "generation": 1}
        self.api.put(Machine.RESOURCE, {"metadata": meta, "spec": usual | spec})

    async def delete(self) -> None:
        await self.api.client().delete(Machine.RESOURCE, KEY)

    def join(self) -> None:
        """The VM becomes a node with its GPU."""
        self.api.put(
            Node.RESOURCE,
            {
                "metadata": {"name": NODE.name, "uid": "node-uid", "labels": {AGENT_POOL: NAME}},
                "spec": {"providerID": "azure:///vm/0"},
                "status": {
                    "allocatable": {"nvidia.com/gpu": "1"},
                    "conditions": [{"type": "Ready", "status": "True"}],
                },
            },
        )

    def azure_goes_on(self) -> None:
        """Whatever operation runs at Azure ends."""
        found = self.pools.pools.get(NAME)
        if found is None:
            return
        if found.state == "Deleting":
            del self.pools.pools[NAME]
        elif found.state == "InProgress":
            self.pools.end(NAME, "Succeeded")
            self.join()

    def told(self) -> dict[str, tuple[str, str]]:
        """Status and reason of each condition."""
        claim = self.api.see(Machine.RESOURCE, KEY) or {}
        conditions = claim.get("status", {}).get("conditions", [])
        return {c["type"]: (c["status"], c.get("reason", "")) for c in conditions}

    async def settle(self, seconds: float = 40) -> None:
        for _ in range(int(seconds)):
            await self.clock.advance(1)
            self.azure_goes_on()
