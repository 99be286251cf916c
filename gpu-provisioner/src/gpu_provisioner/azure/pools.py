"""The narrow border to AKS: what an agent pool is to us, and the five calls that we make.

Invariant: no SDK type crosses this border, and every failure that crosses it is an `AzureError`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

PoolState = Literal["InProgress", "Succeeded", "Failed", "Deleting"]
"""What `provisioningState` comes to: Creating, Updating, Scaling, Upgrading… are InProgress."""


@dataclass(frozen=True, slots=True)
class Pool:
    """An agent pool as Azure last told it.

    Attributes:
        name: 1 to 12 lower-case letters and digits; unique in the cluster.
        state: what its provisioning state comes to.
        phase: the provisioning state in AKS's own word, such as "UpgradingNodeImageVersion".
        etag: the version that guards changes; "" when AKS told none.
        system: AKS's own mode System: never ours.
        count: how many VMs it is to have.
        vm_size: such as "Standard_NC24ads_A100_v4".
        image: the node image version.
        labels: labels that AKS puts on its nodes.
        tags: Azure tags, which say whose it is.
        running: False when its VMs are stopped.
        subnet: resource id of the nodes' subnet; "" for AKS's own.
        pod_subnet: resource id of the pods' subnet; "" for none.
        error: the provisioning error of a Failed pool, as text; "" when AKS told none.
    """

    name: str
    state: PoolState
    phase: str = ""
    etag: str = ""
    system: bool = False
    count: int = 1
    vm_size: str = ""
    image: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    running: bool = True
    subnet: str = ""
    pod_subnet: str = ""
    error: str = ""

    @property
    def upgrading(self) -> bool:
        """AKS is replacing the VMs; for a while there are more nodes than `count`."""
        return self.phase.startswith("Upgrading")


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """An agent pool to be made.

    Attributes:
        name: 1 to 12 lower-case letters and digits.
        vm_size: the VM size.
        count: how many VMs.
        os_sku: "Ubuntu" or "AzureLinux".
        os_disk_gib: 1 to 2048; None for AKS's default.
        labels: labels for the nodes.
        taints: `key=value:effect` or `key:effect`.
        tags: Azure tags.
        zones: zone numbers, such as "1"; empty for AKS's choice.
        spot: evictable VMs at a lower price.
        subnet: resource id; "" for AKS's own.
        pod_subnet: resource id; "" for none.
    """

    name: str
    vm_size: str
    count: int = 1
    os_sku: str = "Ubuntu"
    os_disk_gib: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: Sequence[str] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    zones: Sequence[str] = ()
    spot: bool = False
    subnet: str = ""
    pod_subnet: str = ""


class Pools(Protocol):
    """The agent pools of one cluster. Operations are begun and never awaited to their end."""

    async def list(self) -> list[Pool]:
        """Every agent pool of the cluster, AKS's own included."""
        ...

    async def get(self, name: str) -> Pool | None:
        """The pool, or None when Azure says that there is none of that name."""
        ...

    async def create(self, spec: PoolSpec) -> Pool | None:
        """Begins to make a pool; None when there is one of that name already."""
        ...

    async def delete(self, name: str, *, etag: str) -> bool:
        """Begins to delete the pool of that etag; False when there was none."""
        ...

    async def abort(self, name: str) -> None:
        """Asks AKS to give up the operation that runs on the pool."""
        ...
