"""What the emulated AKS asks of whatever makes its nodes.

Invariant: the emulator owns time and state, a driver owns mechanics. Every call is safe to repeat:
after a restart the emulator calls `create` again for each VM that exists.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True)
class NodeSpec:
    """What AKS tells a new VM.

    Attributes:
        name: name of the VM and of its Node.
        pool: name of the agent pool.
        provider_id: `spec.providerID` of the Node.
        vm_size: as in Standard_NC12s_v3.
        gpus: NVIDIA devices to advertise; 0 for none.
        labels: every label of the Node.
        taints: as key=value:effect.
        zone: as in eastus-1; None for a VM outside the zones.
        instance: number of the VM in its scale set.
        region: as in eastus.
        spot: whether it can be evicted.
    """

    name: str
    pool: str
    provider_id: str
    vm_size: str
    gpus: int
    labels: Mapping[str, str]
    taints: tuple[str, ...]
    zone: str | None
    instance: int
    region: str
    spot: bool


class NodeBootError(RuntimeError):
    """The VM can't boot and a further try would not help; the text is what AKS reports."""


class NodeDriver(Protocol):
    """Makes and removes nodes. A failed call is repeated, a NodeBootError is final."""

    async def create(self, spec: NodeSpec) -> None:
        """Boots the VM; returns once its Node exists. Ready follows."""
        ...

    async def advertise_gpu(self, spec: NodeSpec) -> None:
        """Puts `nvidia.com/gpu` into the Node's capacity and allocatable."""
        ...

    async def delete(self, spec: NodeSpec) -> None:
        """Ends the VM and deletes its Node; a finalizer may keep the Node object for longer."""
        ...

    async def close(self) -> None:
        """Lets go of what the driver holds; Nodes and real VMs stay as they are."""
        ...


@runtime_checkable
class NodeConditions(Protocol):
    """A driver that can also report trouble on a Node; not every driver can."""

    async def set_condition(
        self, spec: NodeSpec, condition: str, status: str, reason: str, message: str
    ) -> None:
        """Sets a condition of the Node; `Ready` with another status than True stops its heartbeat."""
        ...


class NoNodes:
    """The driver `none`: pools come and go, and no Node ever appears anywhere."""

    async def create(self, spec: NodeSpec) -> None:
        """Does nothing."""

    async def advertise_gpu(self, spec: NodeSpec) -> None:
        """Does nothing."""

    async def delete(self, spec: NodeSpec) -> None:
        """Does nothing."""

    async def close(self) -> None:
        """Does nothing."""
