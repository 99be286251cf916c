"""Everything the emulated Azure knows, in memory and on disk at once.

Invariant: a change is on disk before anything outside can see it; each saved change of a pool gives
it a new ETag.
"""

import uuid
from collections.abc import Callable
from typing import Any, Final

from controlkit.clock import Clock
from sandbox.aks.buckets import Bucket, Buckets
from sandbox.aks.document import merge_patch
from sandbox.aks.faults import Fault, Faults
from sandbox.aks.records import Instance, Moment, Operation, Pool
from sandbox.aks.settings import Cluster, Settings
from sandbox.aks.store import Store
from sandbox.aks.trouble import facts_about

SYSTEM_POOL: Final = "system"
KEPT_OPERATIONS: Final = 5000


class World:
    """The cluster's pools and operations, and how the emulator is to behave."""

    def __init__(self, cluster: Cluster, launch: Settings, store: Store, clock: Clock) -> None:
        self.cluster = cluster
        self.store = store
        self.clock = clock
        self.on_change: Callable[[str], None] = lambda _pool: None
        self._launch = launch
        self._load()

    def _load(self) -> None:
        self._changed_settings: dict[str, object] = self.store.value("settings", {})
        self.settings = self._launch.merged(self._changed_settings)
        self.pools = self.store.all("pool", Pool)
        for vm in self.store.all("vm", Instance).values():
            self.pools[vm.pool].instances.append(vm)
        self.operations = self.store.all("operation", Operation)
        self.faults = Faults(self.store.all("fault", Fault))
        levels = self.store.value("buckets", {})
        self.buckets = Buckets({name: Bucket.model_validate(at) for name, at in levels.items()})
        if SYSTEM_POOL not in self.pools:
            self.save_pool(_system_pool(self.now(), self.settings.subnet))

    def now(self) -> Moment:
        """Returns the moment, in seconds since the epoch."""
        return self.clock.now().timestamp()

    def save_pool(self, pool: Pool) -> None:
        """Writes a new or changed pool."""
        pool.etag = uuid.uuid4().hex
        self.pools[pool.name] = pool
        self.store.put("pool", pool.name, pool)
        self.on_change(pool.name)

    def save_vm(self, vm: Instance) -> None:
        """Writes a new or changed VM."""
        self.store.put("vm", _vm_key(vm), vm)
        self.on_change(vm.pool)

    def remove_vm(self, vm: Instance) -> None:
        """Forgets a VM."""
        self.pools[vm.pool].instances.remove(vm)
        self.store.remove("vm", _vm_key(vm))
        self.on_change(vm.pool)

    def remove_pool(self, name: str) -> None:
        """Forgets a pool."""
        del self.pools[name]
        self.store.remove("pool", name)
        self.on_change(name)

    def save_operation(self, operation: Operation) -> None:
        """Writes a new or changed operation; the oldest ended ones are forgotten at some point."""
        if operation.id not in self.operations and len(self.operations) >= KEPT_OPERATIONS:
            ended = (item for item in self.operations.values() if not item.running)
            oldest = min(ended, key=lambda item: item.started, default=None)
            if oldest is not None:
                del self.operations[oldest.id]
                self.store.remove("operation", oldest.id)
        self.operations[operation.id] = operation
        self.store.put("operation", operation.id, operation)
        self.on_change(operation.pool)

    def running_operation(self, pool: Pool) -> Operation | None:
        """Returns the operation that the pool is in, if any."""
        return self.operations[pool.operation] if pool.operation else None

    def change_settings(self, patch: dict[str, object]) -> Settings:
        """Applies a merge patch that outlives a restart; null restores what the start said.

        A throttle that is switched on begins with full buckets.

        Raises:
            pydantic.ValidationError: a field is unknown or its value does not fit.
        """
        changed = merge_patch(self._changed_settings, patch)
        settings = self._launch.merged(changed)
        if settings.throttle and not self.settings.throttle:
            self.buckets = Buckets({})
            self.store.put_value("buckets", {})
        self.settings = settings
        self._changed_settings = changed
        self.store.put_value("settings", changed)
        return self.settings

    def take_token(self, bucket: str) -> int | None:
        """Takes a token of the throttle; returns None, or for how many seconds to wait."""
        if not self.settings.throttle:
            return None
        wait = self.buckets.take(bucket, self.now(), self.settings.speed)
        levels = {name: level.json_dict() for name, level in self.buckets.levels.items()}
        self.store.put_value("buckets", levels)
        return wait

    def facts(self, verb: str, pool: str, body: bytes) -> dict[str, object]:
        """Returns what the text of an error about this call can speak of."""
        return facts_about(self.cluster, self.settings, self.pools, verb, pool, body=body)

    def strike(self, verb: str, pool: str, *, request: bool) -> list[Fault]:
        """Returns the faults that change this call, and remembers that they were used."""
        struck = self.faults.strike(verb, pool, request=request)
        for fault in self.faults.all():
            self.store.put("fault", fault.id, fault)
        return struck

    def add_fault(self, fault: Fault) -> Fault:
        """Takes a fault in; returns it with its id."""
        added = self.faults.add(fault)
        self.store.put("fault", added.id, added)
        return added

    def clear_faults(self) -> None:
        """Forgets all faults."""
        for fault_id in self.faults.clear():
            self.store.remove("fault", fault_id)

    def remove_fault(self, fault_id: str) -> bool:
        """Forgets one fault; False when there is none of that id."""
        self.store.remove("fault", fault_id)
        return self.faults.remove(fault_id)

    def secret(self) -> str:
        """Returns the key that access tokens are signed with; it survives a restart."""
        known: str = self.store.value("secret", "")
        if not known:
            known = uuid.uuid4().hex
            self.store.put_value("secret", known)
        return known

    def revoke_tokens(self) -> None:
        """Makes every access token that was given out invalid."""
        self.store.put_value("secret", "")

    def forget_all(self) -> None:
        """Returns to the state of a first start; pools must be gone already."""
        self.store.clear()
        self._load()


def _vm_key(vm: Instance) -> str:
    return f"{vm.pool}/{vm.index:06}"  # sorts as they were made


def _system_pool(now: Moment, subnet: str) -> Pool:
    """The pool that every cluster has; its VMs are the sandbox's own and not made here."""
    properties: dict[str, Any] = {
        "count": 1,
        "vmSize": "Standard_D4s_v3",
        "mode": "System",
        "osType": "Linux",
        "osSKU": "Ubuntu",
        "type": "VirtualMachineScaleSets",
        "osDiskType": "Managed",
        "osDiskSizeGB": 128,
        "maxPods": 110,
        **({"vnetSubnetID": subnet} if subnet else {}),
    }
    return Pool(
        name=SYSTEM_POOL, number="00000000", properties=properties, state="Succeeded", created=now
    )
