"""Long-running operations: how each kind begins, goes on and ends.

Invariant: a pool is in one operation at a time; its provisioningState is the operation's until the
end and tells the outcome after it. What begins here ends, unless a fault says that it is stuck.
"""

import uuid
from collections.abc import Iterable, Sequence
from typing import Any, Final

import structlog

from controlkit.clock import wait_for
from sandbox.aks.capacity import Placement
from sandbox.aks.errors import ArmError, known_error
from sandbox.aks.machines import Machines
from sandbox.aks.planning import add_vm, planned_end
from sandbox.aks.progress import Ended, Replace, Wait, progress
from sandbox.aks.records import (
    POOL_STATES,
    Instance,
    Operation,
    OperationKind,
    OperationStatus,
    Pool,
)
from sandbox.aks.tasks import Pulse, Tasks
from sandbox.aks.trouble import NONE, Trouble
from sandbox.aks.world import SYSTEM_POOL, World
from sandbox.nodes.driver import NodeDriver

log = structlog.get_logger(__name__)

LOOK_AGAIN: Final = 3600.0
"""Seconds after which an operation that waits for a change looks by itself."""


class Operations:
    """Begins operations on request and brings them to their end."""

    def __init__(self, world: World, driver: NodeDriver, tasks: Tasks) -> None:
        self._world = world
        self._tasks = tasks
        self._pulses: dict[str, Pulse] = {}
        self.machines = Machines(world, driver, tasks, self._boot_failed)
        world.on_change = self._changed

    def resume(self) -> None:
        """Goes on with everything that was under way when the emulator ended."""
        for pool in self._world.pools.values():
            for vm in pool.instances:
                self.machines.start(pool, vm)
        for operation in list(self._world.operations.values()):
            if operation.running:
                self._run(operation)

    def put(
        self,
        pool: Pool,
        kind: OperationKind,
        placement: Placement,
        trouble: Trouble,
    ) -> Operation:
        """Begins a create, update or scale that adds the VMs of the placement.

        A failure that Azure reports late is known beforehand here, and so is the trouble.
        """
        standing = pool.standing()
        given_up = [vm for vm in pool.instances if vm.counted and vm not in standing]
        surplus = [*given_up, *standing[pool.count :]]
        new = self._add_vms(pool, placement.zones, trouble)
        timings = self._world.settings.timings
        grows = bool(new) or placement.shortage is not None
        usual = timings.join + timings.ready if grows else timings.update
        operation = self._begin(
            pool,
            kind,
            seconds=usual if timings.operation is None else timings.operation,
            waits=bool(surplus) or (bool(new) and timings.operation is None),
            vms=[*new, *surplus],
            failure=placement.shortage,
            trouble=trouble,
        )
        if new and "extra-node" in trouble.effects:
            (extra,) = self._add_vms(pool, placement.zones[:1], trouble)
            extra.extra = True
            self._world.save_vm(extra)
            new.append(extra)
        for vm in new:
            self.machines.start(pool, vm)
        for vm in surplus:
            self.machines.remove(pool, vm)
        return operation

    def delete(self, pool: Pool, trouble: Trouble = NONE, *, at_once: bool = False) -> Operation:
        """Begins the end of a pool, and ends what it was in."""
        with self._world.store.atomic():
            return self._delete(pool, trouble, at_once=at_once)

    def _delete(self, pool: Pool, trouble: Trouble, *, at_once: bool) -> Operation:
        # An abort that is under way makes two: itself, and what it was to cancel.
        for running in [*self._world.operations.values()]:
            if running.pool == pool.name and running.running:
                self._end(running, "Failed", known_error("preempted-by-delete").body)
        operation = self._begin(
            pool,
            "Delete",
            seconds=0 if at_once else self._world.settings.timings.remove,
            waits=True,
            vms=pool.instances,
            trouble=trouble,
        )
        if operation.failure is None:  # one that is going to fail leaves everything as it is
            for vm in list(pool.instances):
                self.machines.remove(pool, vm)
        return operation

    def delete_machines(self, pool: Pool, nodes: Iterable[str], trouble: Trouble) -> Operation:
        """Begins the end of single VMs; the pool's count goes down with them."""
        names = set(nodes)
        going = [vm for vm in pool.instances if vm.node in names and not vm.leaving]
        pool.properties["count"] = max(0, pool.count - sum(vm.counted for vm in going))
        operation = self._begin(
            pool,
            "DeleteMachines",
            seconds=self._world.settings.timings.update,
            waits=True,
            vms=going,
            trouble=trouble,
        )
        for vm in going:
            self.machines.remove(pool, vm)
        return operation

    def upgrade_node_image(self, pool: Pool, trouble: Trouble) -> Operation:
        """Begins a surge upgrade: a new VM for each old one, then the old ones go."""
        old = [vm for vm in pool.instances if not vm.leaving]
        new = self._add_vms(pool, [vm.zone for vm in old], trouble)
        timings = self._world.settings.timings
        operation = self._begin(
            pool,
            "UpgradeNodeImage",
            seconds=timings.join + timings.ready,
            waits=True,
            vms=new,
            replaces=[vm.index for vm in old],
            trouble=trouble,
        )
        for vm in new:
            self.machines.start(pool, vm)
        return operation

    def abort(self, pool: Pool, trouble: Trouble) -> Operation:
        """Begins to cancel what the pool is in."""
        running = self._world.running_operation(pool)
        if running is not None:
            running.held = True
            self._world.save_operation(running)
        return self._begin(
            pool,
            "Abort",
            seconds=self._world.settings.timings.abort,
            waits=False,
            aborts=running.id if running else None,
            trouble=trouble,
        )

    def _begin(
        self,
        pool: Pool,
        kind: OperationKind,
        *,
        seconds: float,
        waits: bool,
        vms: Sequence[Instance] = (),
        replaces: Sequence[int] = (),
        failure: ArmError | None = None,
        aborts: str | None = None,
        trouble: Trouble,
    ) -> Operation:
        now = self._world.now()
        end = planned_end(seconds, failure, trouble)
        operation = Operation(
            id=str(uuid.uuid4()),
            pool=pool.name,
            kind=kind,
            started=now,
            ends_at=now + self._world.settings.scaled(end.seconds),
            waits=waits,
            instances=tuple(vm.index for vm in vms),
            replaces=tuple(replaces),
            failure=end.failure,
            failure_keeps_vms=end.keeps_vms,
            stuck="stuck" in trouble.effects,
            lost="lost-operation" in trouble.effects,
            aborts=aborts,
        )
        pool.state, pool.error, pool.operation = POOL_STATES[kind], None, operation.id
        self._world.save_operation(operation)
        self._world.save_pool(pool)
        self._run(operation)
        log.info("operation accepted", kind=kind, pool=pool.name, count=pool.count)
        return operation

    def _run(self, operation: Operation) -> None:
        name = f"{operation.kind} of {operation.pool}"
        self._tasks.start(self._bring_to_end(operation), name)

    async def _bring_to_end(self, operation: Operation) -> None:
        pool = self._world.pools[operation.pool]
        while operation.running:
            changed = self._pulse(pool.name).next()
            match progress(operation, pool, self._world.now()):
                case Ended(status=status):
                    self._end(operation, status, operation.failure)
                case Replace():
                    self._replace(operation, pool)
                case Wait(seconds=seconds):
                    await wait_for(self._world.clock, changed, seconds or LOOK_AGAIN)

    def _end(
        self, operation: Operation, status: OperationStatus, error: dict[str, Any] | None
    ) -> None:
        with self._world.store.atomic():
            self._write_end(operation, status, error)

    def _write_end(
        self, operation: Operation, status: OperationStatus, error: dict[str, Any] | None
    ) -> None:
        pool = self._world.pools[operation.pool]
        operation.status, operation.error = status, error
        operation.ended = self._world.now()
        self._world.save_operation(operation)
        log.info("operation ended", kind=operation.kind, pool=pool.name, status=status)
        if status != "Succeeded" and not operation.failure_keeps_vms:
            self._drop_unborn(operation, pool)
        if pool.operation != operation.id:
            return  # an abort took over
        pool.operation = None
        pool.state, pool.error = status, error
        if operation.kind == "Delete" and status == "Succeeded":
            self._world.remove_pool(pool.name)
            return
        if operation.kind == "Abort":
            self._write_end_of_abort(operation, pool)
        if pool.state == "Succeeded" and pool.name != SYSTEM_POOL:
            pool.recount()
        self._world.save_pool(pool)

    def _write_end_of_abort(self, abort: Operation, pool: Pool) -> None:
        aborted = self._world.operations.get(abort.aborts or "")
        if abort.status == "Succeeded":
            pool.state = "Canceled"
            if aborted is not None and aborted.running:
                self._end(aborted, "Canceled", known_error("canceled").body)
        elif aborted is not None and aborted.running:
            aborted.held = False
            pool.state, pool.error, pool.operation = POOL_STATES[aborted.kind], None, aborted.id
            self._world.save_operation(aborted)

    def _drop_unborn(self, operation: Operation, pool: Pool) -> None:
        """Removes the VMs of an operation that came to nothing, as far as none joined."""
        for vm in list(pool.instances):
            if vm.index in operation.instances and vm.joined_at is None and not vm.leaving:
                self.machines.remove(pool, vm)

    def _replace(self, operation: Operation, pool: Pool) -> None:
        old = [vm for vm in pool.instances if vm.index in operation.replaces and not vm.leaving]
        operation.instances += operation.replaces
        operation.replaces = ()
        self._world.save_operation(operation)
        for vm in old:
            self.machines.remove(pool, vm)

    def _add_vms(self, pool: Pool, zones: Sequence[str | None], trouble: Trouble) -> list[Instance]:
        settings, now = self._world.settings, self._world.now()
        new = [
            add_vm(pool, zone, settings, now, trouble, first=number == 0)
            for number, zone in enumerate(zones)
        ]
        for vm in new:
            self._world.save_vm(vm)
        return new

    def _boot_failed(self, pool: Pool, vm: Instance, why: str) -> None:
        vm.join_at = None
        self._world.save_vm(vm)
        operation = self._world.running_operation(pool)
        if operation is not None and vm.index in operation.instances:
            operation.failure = known_error("boot-refused", reason=why).body
            operation.failure_keeps_vms = True
            self._world.save_operation(operation)

    def _changed(self, pool: str) -> None:
        self._pulse(pool).beat()

    def _pulse(self, pool: str) -> Pulse:
        return self._pulses.setdefault(pool, Pulse())
