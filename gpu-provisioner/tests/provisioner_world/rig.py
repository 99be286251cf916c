"""A whole provisioner in virtual time, over an API server and agent pools in memory.

Invariant: a process may end before any of its actions, and the next one finds the world as it was.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from controlkit.cache import Cache
from controlkit.kube.objects import Key
from controlkit.kube.reflector import Reflector
from controlkit_testing import FakeClock, KeptEvents, MemoryApi
from gpu_provisioner.azure.gateway import Gateway
from gpu_provisioner.claims.actions import Action, Policy
from gpu_provisioner.claims.claim import Claim
from gpu_provisioner.claims.execute import Work
from gpu_provisioner.claims.machine import MachineDialect
from gpu_provisioner.claims.shape import PoolMode
from gpu_provisioner.collector.collect import Served
from gpu_provisioner.fleet import Fleet, node_cache
from gpu_provisioner.pools.actions import Action as PoolAction
from gpu_provisioner.pools.notes import Entries
from gpuapis.core import Node
from gpuapis.labels import AGENT_POOL, INSTANCE_TYPE, WORKSPACE
from gpuapis.machine import Machine
from provisioner_world.builders import NAME, SIZE
from provisioner_world.memory_pools import MemoryPools

KEY = Key("", NAME)
NODE = Key("", "node-1")


class Crash(Exception):
    """The process ends here."""


@dataclass
class Fuse:
    """Ends the process before its n-th action, on whichever part of it that falls."""

    left: int = 10**6

    def burn(self) -> None:
        """One action is about to be carried out."""
        if self.left == 0:
            raise Crash
        self.left -= 1


def lay(fuse: Fuse, fleet: Fleet) -> None:
    """Has every action of every part burn the fuse."""
    claims, pools = fleet.claims["Machine"].executor, fleet.pools.executor
    about_claim, about_pool, write = claims.carry_out, pools.carry_out, fleet.notes.write

    async def on_claim(work: Work, action: Action) -> None:
        fuse.burn()
        await about_claim(work, action)

    async def on_pool(name: str, action: PoolAction) -> None:
        fuse.burn()
        await about_pool(name, action)

    async def note(claim: Claim, labels: Entries, annotations: Entries) -> bool:
        fuse.burn()
        return await write(claim, labels, annotations)

    claims.carry_out = on_claim  # type: ignore[method-assign]
    pools.carry_out = on_pool  # type: ignore[method-assign]
    fleet.notes.write = note  # type: ignore[method-assign]


@dataclass
class Rig:
    """One process after another on the same world."""

    api: MemoryApi = field(default_factory=MemoryApi)
    pools: MemoryPools = field(default_factory=MemoryPools)
    clock: FakeClock = field(default_factory=FakeClock)
    policy: Policy = field(default_factory=Policy)
    mode: PoolMode = "dedicated"
    failures: list[BaseException] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.events = KeptEvents(self.api)

    @asynccontextmanager
    async def process(self, actions: int = 10**6) -> AsyncIterator[None]:
        """Runs the controller, for so many actions at most; a crash ends it alone."""
        client = self.api.client()
        machines, nodes = Cache(Machine), node_cache()
        self.gateway = Gateway(self.pools, self.clock)
        self.fleet = Fleet(
            client=client,
            gateway=self.gateway,
            kinds=[Served(MachineDialect(), machines)],
            nodes=nodes,
            events=self.events,
            clock=self.clock,
            mode=self.mode,
            policy=self.policy,
        )
        lay(Fuse(actions), self.fleet)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(part)
                for part in (
                    Reflector(client, machines, clock=self.clock).run(),
                    Reflector(client, nodes, clock=self.clock).run(),
                    *(run() for run in self.fleet.runs.values()),
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

    def join(self, *, ready: bool = True) -> None:
        """The VM becomes a node with its GPU."""
        self.api.put(
            Node.RESOURCE,
            {
                "metadata": {"name": NODE.name, "uid": "node-uid", "labels": {AGENT_POOL: NAME}},
                "spec": {"providerID": "azure:///vm/0"},
                "status": {
                    "allocatable": {"nvidia.com/gpu": "1"},
                    "conditions": [{"type": "Ready", "status": str(ready)}],
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
