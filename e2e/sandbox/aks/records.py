"""What the emulated Azure remembers: pools, their VM instances, and operations.

Invariant: a record holds all that a restarted emulator needs to go on; moments are seconds since
the epoch on the wall clock, so a deadline that passed while the emulator was down is simply due.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from sandbox.aks.document import Document

Moment = float
"""Seconds since the epoch."""

OperationKind = Literal[
    "Create", "Update", "Scale", "Delete", "DeleteMachines", "Abort", "UpgradeNodeImage"
]
OperationStatus = Literal["InProgress", "Succeeded", "Failed", "Canceled"]

POOL_STATES: dict[OperationKind, str] = {
    "Create": "Creating",
    "Update": "Updating",
    "Scale": "Scaling",
    "Delete": "Deleting",
    "DeleteMachines": "DeletingMachines",
    "Abort": "Canceling",
    "UpgradeNodeImage": "UpgradingNodeImageVersion",
}
"""The provisioningState of a pool while an operation of each kind runs."""


class Instance(Document):
    """One VM of a pool's scale set."""

    pool: str
    index: int
    node: str
    zone: str | None = None
    join_at: Moment | None = None
    """When its Node registers; None: never."""
    joined_at: Moment | None = None
    ready_at: Moment | None = None
    """When its Node is Ready, as far as the emulator knows."""
    gpu_at: Moment | None = None
    """When its GPUs show; None: not known yet, or never."""
    gpu: bool = False
    """Whether its GPUs have been shown."""
    hides_gpu: bool = False
    leaving: bool = False
    evict_at: Moment | None = None
    extra: bool = False
    """A Node beside the ones that the pool counts."""

    @property
    def counted(self) -> bool:
        """Whether the pool's `count` includes this VM."""
        return not self.leaving and not self.extra


class Operation(Document):
    """A long-running operation, as its status URL shows it."""

    id: str
    pool: str
    kind: OperationKind
    started: Moment
    ends_at: Moment
    """The earliest end; VMs that take longer move it."""
    waits: bool = True
    """Whether the end waits for the VMs of this operation to be Ready, or gone."""
    instances: tuple[int, ...] = ()
    """Indexes of the VMs that it makes or removes."""
    replaces: tuple[int, ...] = ()
    """Indexes of the VMs that go once the new ones are Ready."""
    failure: dict[str, Any] | None = None
    """The error that it is going to end with."""
    failure_keeps_vms: bool = False
    stuck: bool = False
    held: bool = False
    """An abort is under way, which decides how it ends."""
    lost: bool = False
    """Its status URL answers 404."""
    aborts: str | None = None
    """Id of the operation that this one cancels."""
    status: OperationStatus = "InProgress"
    ended: Moment | None = None
    error: dict[str, Any] | None = None

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.status == "InProgress"


class Pool(Document):
    """An agent pool: what the client asked for and the VMs that came of it."""

    name: str
    number: str
    """The eight digits in the names of its scale set and nodes."""
    properties: dict[str, Any]
    """The ARM properties that the client set or AKS filled in; no state."""
    state: str = "Creating"
    error: dict[str, Any] | None = None
    etag: str = ""
    created: Moment
    next_index: int = 0
    instances: Annotated[list[Instance], Field(exclude=True)] = []
    """Its VMs in the order of their making; each is stored by itself."""
    operation: str | None = None
    """Id of the running operation."""

    @property
    def count(self) -> int:
        """How many VMs the pool is to have."""
        return int(self.properties.get("count", 0))

    @property
    def vm_size(self) -> str:
        """The VM size, as the client spelt it."""
        return str(self.properties["vmSize"])

    @property
    def spot(self) -> bool:
        """Whether its VMs can be evicted."""
        return self.properties.get("scaleSetPriority") == "Spot"

    @property
    def system(self) -> bool:
        """Whether it is a system pool."""
        return self.properties.get("mode") == "System"

    @property
    def scale_set(self) -> str:
        """The name of its scale set."""
        return f"aks-{self.name}-{self.number}-vmss"

    def standing(self) -> list[Instance]:
        """Returns the VMs that a PUT may count on.

        A VM that a failed or cancelled operation left without a Node is not one of them.
        """
        broken = self.state in ("Failed", "Canceled")
        return [vm for vm in self.instances if vm.counted and not (broken and vm.join_at is None)]

    def recount(self) -> None:
        """Sets `count` to the VMs that there are: an eviction took some, and none follows."""
        self.properties["count"] = sum(vm.counted for vm in self.instances)

    def vm_of(self, node: str) -> Instance | None:
        """Returns the VM of that name, or None."""
        return next((vm for vm in self.instances if vm.node == node), None)
