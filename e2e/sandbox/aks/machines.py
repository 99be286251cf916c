"""The life of each VM: it joins, shows its GPUs, and goes when told to.

Invariant: one task per VM, and its record says how far it came, so that a restarted emulator starts
the same tasks and ends in the same place. A driver that fails is asked again until it succeeds.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from sandbox.aks.records import Instance, Moment, Pool
from sandbox.aks.tasks import Tasks
from sandbox.aks.wire import node_spec
from sandbox.aks.world import World
from sandbox.nodes.driver import NodeBootError, NodeConditions, NodeDriver, NodeSpec
from sandbox.nodes.patience import until_done

log = structlog.get_logger(__name__)


class Machines:
    """All VMs of the cluster.

    `boot_failed` is called when the driver says that a VM will never boot, and why.
    """

    def __init__(
        self,
        world: World,
        driver: NodeDriver,
        tasks: Tasks,
        boot_failed: Callable[[Pool, Instance, str], None],
    ) -> None:
        self._world = world
        self._driver = driver
        self._tasks = tasks
        self._boot_failed = boot_failed
        self._leave: dict[tuple[str, int], asyncio.Event] = {}

    def start(self, pool: Pool, vm: Instance) -> None:
        """Begins the life of a VM or, after a restart, goes on with it."""
        leave = self._leave[pool.name, vm.index] = asyncio.Event()
        if vm.leaving:
            leave.set()
        self._tasks.start(self._live(pool, vm, leave), f"VM {vm.node}")
        if vm.evict_at is not None:
            self._tasks.start(self._evict(pool, vm, vm.evict_at), f"eviction of {vm.node}")

    def remove(self, pool: Pool, vm: Instance) -> None:
        """Begins the end of a VM."""
        vm.leaving = True
        self._world.save_vm(vm)
        self._leave[pool.name, vm.index].set()

    async def evict(self, pool: Pool, vm: Instance, *, notice: bool) -> None:
        """Takes a spot VM away: now, or after the notice that Azure gives on the Node."""
        delay = self._world.settings.timings.eviction_notice if notice else 0.0
        at = self._world.now() + self._world.settings.scaled(delay)
        if notice and isinstance(self._driver, NodeConditions):
            text = "Preempt Scheduled. DurationInSeconds: -1."
            await self._driver.set_condition(
                self._spec(pool, vm), "VMEventScheduled", "True", "VMEventScheduled", text
            )
        vm.evict_at = at
        self._world.save_vm(vm)
        self._tasks.start(self._evict(pool, vm, at), f"eviction of {vm.node}")

    async def set_ready(self, pool: Pool, vm: Instance, *, ready: bool) -> bool:
        """Makes a Node NotReady or Ready again; False when the driver can't."""
        if not isinstance(self._driver, NodeConditions):
            return False
        status, reason, message = (
            ("True", "KubeletReady", "kubelet is posting ready status")
            if ready
            else ("False", "KubeletNotReady", "container runtime is down")
        )
        await self._driver.set_condition(self._spec(pool, vm), "Ready", status, reason, message)
        return True

    async def _live(self, pool: Pool, vm: Instance, leave: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            boot = group.create_task(self._boot(pool, vm))
            await leave.wait()
            boot.cancel()
        await self._drive("delete", self._driver.delete, self._spec(pool, vm))
        del self._leave[pool.name, vm.index]
        self._world.remove_vm(vm)
        log.info("VM gone", pool=pool.name, node=vm.node)

    async def _boot(self, pool: Pool, vm: Instance) -> None:
        spec = self._spec(pool, vm)
        if vm.join_at is None or vm.leaving:
            return
        await self._sleep_until(vm.join_at)
        try:
            await self._drive("create", self._driver.create, spec)
        except NodeBootError as error:
            log.warning("VM does not boot", pool=pool.name, node=vm.node, why=str(error))
            self._boot_failed(pool, vm, str(error))
            return
        if vm.joined_at is None:
            self._joined(pool, vm, spec)
        if vm.gpu_at is None:
            return
        await self._sleep_until(vm.gpu_at)
        await self._drive("advertise GPU", self._driver.advertise_gpu, spec)
        if not vm.gpu:
            vm.gpu = True
            self._world.save_vm(vm)
            log.info("GPU advertised", pool=pool.name, node=vm.node, gpus=spec.gpus)

    def _joined(self, pool: Pool, vm: Instance, spec: NodeSpec) -> None:
        settings = self._world.settings
        vm.joined_at = self._world.now()
        vm.ready_at = vm.joined_at + settings.scaled(settings.timings.ready)
        if spec.gpus and not vm.hides_gpu:
            vm.gpu_at = vm.ready_at + settings.scaled(settings.timings.gpu)
        self._world.save_vm(vm)
        log.info("node joined", pool=pool.name, node=vm.node)

    async def _evict(self, pool: Pool, vm: Instance, at: Moment) -> None:
        await self._sleep_until(at)
        if vm.leaving or vm not in pool.instances:
            return
        log.info("spot VM evicted", pool=pool.name, node=vm.node)
        self.remove(pool, vm)
        if pool.operation is None:  # else its end counts
            pool.recount()
            self._world.save_pool(pool)

    async def _drive(
        self, what: str, call: Callable[[NodeSpec], Awaitable[None]], spec: NodeSpec
    ) -> None:
        await until_done(self._world.clock, f"{what} {spec.name}", lambda: call(spec))

    async def _sleep_until(self, moment: Moment) -> None:
        await self._world.clock.sleep(moment - self._world.now())

    def _spec(self, pool: Pool, vm: Instance) -> NodeSpec:
        return node_spec(self._world.cluster, pool, vm)
