"""A whole provisioner that does nothing by itself: tests say what it sees and when it works.

Invariant: it is the real one but for its timers and its watches; whatever it does is checked at once
against what must always hold.
"""

import asyncio
from collections import Counter
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

from controlkit.cache import Cache
from controlkit.errors import ControlError
from controlkit.kube.objects import Key
from controlkit_testing import FakeClock, KeptEvents, MemoryApi
from gpu_provisioner.azure.gateway import Gateway
from gpu_provisioner.azure.pools import Pool, PoolSpec
from gpu_provisioner.claims.machine import MachineDialect
from gpu_provisioner.claims.shape import PoolMode
from gpu_provisioner.collector.collect import Served
from gpu_provisioner.fleet import Fleet, node_cache
from gpu_provisioner.pools.orders import ALL
from gpuapis.core import Node
from gpuapis.labels import AGENT_POOL, ASSIGNED_POOL, INSTANCE_TYPE, WORKSPACE
from gpuapis.machine import Machine
from provisioner_world.builders import SIZE
from provisioner_world.memory_pools import MemoryPools
from provisioner_world.rig import Crash, Fuse, lay

T = TypeVar("T")

PREFIX = "azure:///subscriptions/s/vm/"


class WatchedPools(MemoryPools):
    """Agent pools whose VMs are made and deleted as at AKS, and that check what is asked of them."""

    def __init__(self, api: MemoryApi) -> None:
        super().__init__()
        self.api = api
        self.made = Counter[str]()
        self.lost = set[str]()

    async def create(self, spec: PoolSpec) -> Pool | None:
        """Begins to make a pool, with all its VMs."""
        self._intended(spec.name, spec.count)
        if spec.name not in self.pools and not self.fail.get("put"):
            self._add(spec.name, spec.count)
        return await super().create(spec)

    async def grow(self, name: str, count: int, *, etag: str) -> Pool:
        """Begins to add VMs."""
        self._intended(name, count)
        before = self.pools[name].count if name in self.pools else 0
        idle = name in self.pools and self.pools[name].state != "InProgress"
        if idle and not self.fail.get("grow") and etag == self.pools[name].etag:
            self._add(name, count - before)
        return await super().grow(name, count, etag=etag)

    async def delete_machines(self, name: str, machines: Iterable[str]) -> None:
        """Begins to delete VMs."""
        for machine in machines:
            owner = self.owner(machine)
            going = owner is None or "deletionTimestamp" in owner["metadata"]
            assert going, f"VM {machine} is deleted under {owner}"
        await super().delete_machines(name, list(machines))
        for machine in machines:
            self.forget(machine)

    def lose(self, name: str, *, keep: int) -> None:
        """All but so many VMs of the pool that have not joined are gone."""
        alive = {node["metadata"]["name"] for node in self.api.all(Node.RESOURCE)}
        joined = [vm for vm in self.vms.get(name, []) if vm in alive]
        waiting = [vm for vm in self.vms.get(name, []) if vm not in alive]
        self.vms[name] = [*joined, *waiting[: max(0, keep - len(joined))]]

    def forget(self, machine: str) -> None:
        """Somebody deletes the object of a VM's node."""
        key = Key("", machine)
        self.lost.add(machine)
        if (node := self.api.see(Node.RESOURCE, key)) is None:
            return
        if node["metadata"].get("finalizers"):
            stamp = {"deletionTimestamp": "2030-01-01T00:00:00Z"}
            self.api.put(Node.RESOURCE, node | {"metadata": node["metadata"] | stamp})
        else:
            self.api.remove(Node.RESOURCE, key)

    def owner(self, machine: str) -> dict[str, Any] | None:
        """The claim that a VM's node belongs to."""
        node = self.api.see(Node.RESOURCE, Key("", machine))
        uids = {each["uid"] for each in (node or {}).get("metadata", {}).get("ownerReferences", [])}
        claims = self.api.all(Machine.RESOURCE)
        return next((claim for claim in claims if claim["metadata"]["uid"] in uids), None)

    def _add(self, name: str, count: int) -> None:
        for _ in range(count):
            self.made[name] += 1
            self.vms.setdefault(name, []).append(f"aks-{name}-{len(self.calls)}-{self.made[name]}")

    def _intended(self, name: str, count: int) -> None:
        """Whoever asks for VMs has written down whom they are for."""
        here = [
            claim
            for claim in self.api.all(Machine.RESOURCE)
            if claim["metadata"].get("labels", {}).get(ASSIGNED_POOL) == name
        ]
        for claim in here:
            assert claim["metadata"]["finalizers"], f"a VM is asked for {claim}, which is not held"
        vms = len(self.vms.get(name, []))
        assert count <= max(len(here), vms) + vms, f"{count} VMs of {name} are asked for {here}"


class SmallWorld:
    """Kubernetes, Azure, and one provisioner after another."""

    def __init__(self, mode: PoolMode) -> None:
        self.loop = asyncio.new_event_loop()
        self.api, self.clock = MemoryApi(), FakeClock()
        self.azure = WatchedPools(self.api)
        self.mode: PoolMode = mode
        self.created = 0
        self.fuse = Fuse()
        self.start()

    def close(self) -> None:
        """Ends the event loop."""
        self.loop.close()

    def start(self) -> None:
        """A new process, which knows nothing but what it reads."""
        self.machines, self.nodes = Cache(Machine), node_cache()
        self.gateway = Gateway(self.azure, self.clock, burst=1000)
        self.fleet = Fleet(
            client=self.api.client(),
            gateway=self.gateway,
            kinds=[Served(MachineDialect(), self.machines)],
            nodes=self.nodes,
            events=KeptEvents(self.api),
            clock=self.clock,
            mode=self.mode,
            empty_pool_delay=60.0,
        )
        lay(self.fuse, self.fleet)
        self.see()

    def see(self) -> None:
        """The watches catch up."""
        version = str(
            max([100, *(int(each["metadata"]["resourceVersion"]) for each in self._all())])
        )
        self.machines.replace(map(Machine.model_validate, self.api.all(Machine.RESOURCE)), version)
        self.nodes.replace(map(Node.model_validate, self.api.all(Node.RESOURCE)), version)

    def list_pools(self) -> None:
        """Azure is asked for its pools, a moment after whatever was done before."""
        self.advance(0.1)
        self.run(self.gateway.directory.refresh())

    def work(self, crash_after: int | None = None) -> None:
        """One pass over everything; the process may end in the middle of it."""
        self.fuse.left = crash_after if crash_after is not None else 10**6
        try:
            self._passes()
        except* Crash:
            self.start()
        self.fuse.left = 10**6

    def _passes(self) -> None:
        self._one(self.fleet.orders.reconcile(ALL))
        names = {*self.fleet.roster.pools(), *self.azure.pools}
        for name in sorted(names):
            self._one(self.fleet.pools.reconcile(Key("", name)))
        for claim in sorted(self.fleet.roster.all(), key=lambda each: each.name):
            self._one(self.fleet.claims["Machine"].reconcile(claim.key))
        self.check()

    def sweep(self) -> None:
        """The collector looks."""
        self._one(self.fleet.collector.sweep())

    def advance(self, seconds: float) -> None:
        """Time passes."""
        self.run(self.clock.advance(seconds))

    def run(self, step: Coroutine[Any, Any, T]) -> T:
        """Carries out one step to its end."""
        return self.loop.run_until_complete(step)

    def _one(self, step: Coroutine[Any, Any, Any]) -> None:
        with suppress(ControlError):
            self.run(step)

    def create(self) -> None:
        """A user creates a claim."""
        self.created += 1
        name = f"ws{self.created}"
        spec = {
            "requirements": [{"key": INSTANCE_TYPE, "operator": "In", "values": [SIZE]}],
            "resources": {"requests": {"nvidia.com/gpu": "1"}},
        }
        meta = {"name": name, "labels": {WORKSPACE: name}, "finalizers": []}
        self.api.put(Machine.RESOURCE, {"metadata": meta, "spec": spec})

    def delete(self, name: str) -> None:
        """A user deletes a claim."""
        self.run(self.api.client().delete(Machine.RESOURCE, Key("", name)))

    def join(self, machine: str) -> None:
        """A VM becomes a node that works."""
        pool = next(name for name, vms in self.azure.vms.items() if machine in vms)
        if self.api.see(Node.RESOURCE, Key("", machine)) is not None:
            return
        self.api.put(
            Node.RESOURCE,
            {
                "metadata": {"name": machine, "labels": {AGENT_POOL: pool}},
                "spec": {"providerID": PREFIX + machine},
                "status": {
                    "allocatable": {"nvidia.com/gpu": "1"},
                    "conditions": [{"type": "Ready", "status": "True"}],
                },
            },
        )

    def end(self, name: str, *, well: bool, keep: int = 0) -> None:
        """The operation that runs on a pool ends."""
        pool = self.azure.pools[name]
        if pool.state == "Deleting":
            for vm in self.azure.vms.pop(name, []):
                self.azure.forget(vm)
            del self.azure.pools[name]
            return
        if not well:
            self.azure.lose(name, keep=keep)
        count = len(self.azure.vms.get(name, []))
        self.azure.pools[name] = replace(pool, count=count if well else pool.count)
        error = "" if well else '{"code":"AllocationFailed","message":"none left"}'
        self.azure.end(name, "Succeeded" if well else "Failed", error=error)

    def evict(self, machine: str) -> None:
        """Azure takes a VM away that nobody gave back."""
        for name, vms in self.azure.vms.items():
            if machine in vms:
                vms.remove(machine)
                pool = self.azure.pools[name]
                self.azure.pools[name] = replace(pool, count=max(0, pool.count - 1))
        self.azure.forget(machine)

    def lost(self, machine: str) -> bool:
        """Whether the VM's node was deleted by a person, so that it does not come back."""
        return machine in self.azure.lost

    def check(self) -> None:
        """What must hold at any moment."""
        owners = Counter[str]()
        for node in self.api.all(Node.RESOURCE):
            uids = [each["uid"] for each in node["metadata"].get("ownerReferences", [])]
            assert len(uids) <= 1, f"two claims own {node}"
            if "deletionTimestamp" not in node["metadata"]:
                owners.update(uids)
        for uid, nodes in owners.items():
            assert nodes == 1, f"claim {uid} has {nodes} nodes"

    def vms(self) -> list[str]:
        """Every VM that is paid for."""
        return [vm for vms in self.azure.vms.values() for vm in vms]

    def claims(self) -> list[dict[str, Any]]:
        """Every claim."""
        return self.api.all(Machine.RESOURCE)

    def bare(self) -> bool:
        """Whether nothing is left but pools without VMs, of which the collector takes care."""
        return not (self.claims() or self.vms() or self.api.all(Node.RESOURCE))

    def story(self) -> str:
        """What there is, for a person who has to find out what went wrong."""
        lines = [
            *(f"claim {each['metadata']} {each.get('status')}" for each in self.claims()),
            *(f"pool {each} {self.azure.vms.get(each.name)}" for each in self.azure.pools.values()),
            *(f"node {each['metadata']}" for each in self.api.all(Node.RESOURCE)),
        ]
        return "\n".join(lines)

    def ready(self) -> bool:
        """Whether every claim can use its node, and no VM is nobody's."""
        claims = self.claims()
        told = [
            {each["type"]: each["status"] for each in claim.get("status", {}).get("conditions", [])}
            for claim in claims
        ]
        names = {claim.get("status", {}).get("nodeName", "") for claim in claims}
        well = all(each.get("Ready") == "True" for each in told) and names == set(self.vms())
        return well and len(self.vms()) == len(claims)

    def _all(self) -> list[dict[str, Any]]:
        return [*self.api.all(Machine.RESOURCE), *self.api.all(Node.RESOURCE)]
