"""Agent pools in memory, behind the same border as the real ones.

Invariant: one operation per pool, etags and `IfMissing` as at AKS; nothing happens by itself, tests
say when an operation ends.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

from gpu_provisioner.azure.errors import AzureError, Failure
from gpu_provisioner.azure.pools import Pool, PoolSpec, PoolState


class MemoryPools:
    """Implements `gpu_provisioner.azure.pools.Pools`.

    Attributes:
        pools: by name.
        calls: what was asked, in order, as (operation, pool name).
        fail: failures that the next calls of an operation meet, in order.
        vms: names of the VMs of each pool.
        deleted: VMs that were deleted by their names.
        cut: operations that are carried out but whose answer is lost.
    """

    def __init__(self) -> None:
        self.pools: dict[str, Pool] = {}
        self.calls: list[tuple[str, str]] = []
        self.fail: dict[str, list[Failure]] = {}
        self.cut: set[str] = set()
        self.vms: dict[str, list[str]] = {}
        self.deleted: list[str] = []
        self._etags = count(1)

    async def list(self) -> list[Pool]:
        """Every pool."""
        self._meet("list", "")
        return list(self.pools.values())

    async def get(self, name: str) -> Pool | None:
        """One pool."""
        self._meet("get", name)
        return self.pools.get(name)

    async def create(self, spec: PoolSpec) -> Pool | None:
        """Begins to make a pool."""
        self._meet("put", spec.name)
        if spec.name in self.pools:
            return None
        made = Pool(
            spec.name,
            "InProgress",
            "Creating",
            etag=f"e{next(self._etags)}",
            count=spec.count,
            vm_size=spec.shape.vm_size,
            labels=spec.shape.labels,
            tags=spec.tags,
        )
        self.pools[spec.name] = made
        self._lose("put")
        return made

    async def grow(self, name: str, count: int, *, etag: str) -> Pool:
        """Begins to add VMs."""
        self._meet("grow", name)
        pool = self.pools.get(name)
        if pool is None or (etag and etag != pool.etag) or count <= pool.count:
            raise AzureError(Failure("changed", "it is not as it was"))
        self._check_idle(pool)
        self.pools[name] = replace(pool, count=count)
        self.end(name, "InProgress", phase="Scaling")
        self._lose("grow")
        return self.pools[name]

    async def machines(self, name: str) -> frozenset[str]:
        """The VMs that `vms` says there are."""
        self._meet("machines", name)
        return frozenset(self.vms.get(name, ()))

    async def delete_machines(self, name: str, machines: Sequence[str]) -> None:
        """Begins to delete VMs; they are gone at once, the operation goes on."""
        self._meet("delete-machines", name)
        pool = self.pools[name]
        self._check_idle(pool)
        assert set(machines) <= set(self.vms[name]), "a VM is deleted that does not exist"
        self.vms[name] = [each for each in self.vms[name] if each not in machines]
        self.deleted += machines
        self.pools[name] = replace(pool, count=len(self.vms[name]))
        self.end(name, "InProgress", phase="DeletingMachines")
        self._lose("delete-machines")

    async def delete(self, name: str, *, etag: str) -> bool:
        """Begins to delete a pool."""
        self._meet("delete", name)
        pool = self.pools.get(name)
        if pool is None:
            return False
        if etag and etag != pool.etag:
            raise AzureError(Failure("changed", "the etag is another one"))
        self._check_idle(pool)
        self.end(name, "Deleting")
        self._lose("delete")
        return True

    async def abort(self, name: str) -> None:
        """Gives up the operation that runs."""
        self._meet("abort", name)
        self.end(name, "Failed", phase="Canceled")

    def end(self, name: str, state: PoolState, *, phase: str = "", error: str = "") -> None:
        """Moves a pool to a state."""
        self.pools[name] = replace(
            self.pools[name],
            state=state,
            phase=phase or state,
            etag=f"e{next(self._etags)}",
            error=error,
        )

    def _check_idle(self, pool: Pool) -> None:
        if pool.state == "InProgress":
            raise AzureError(Failure("conflict", "an operation is in progress"))

    def count(self, operation: str) -> int:
        """How often an operation was asked for."""
        return sum(each == operation for each, _ in self.calls)

    def _meet(self, operation: str, name: str) -> None:
        self.calls.append((operation, name))
        if self.fail.get(operation):
            raise AzureError(self.fail[operation].pop(0))

    def _lose(self, operation: str) -> None:
        if operation in self.cut:
            self.cut.discard(operation)
            raise AzureError(Failure("transient", "the connection was cut"))
