"""The narrow border to AKS: what an agent pool is to us, and the eight calls that we make.

Invariant: no SDK type crosses this border, and every failure that crosses it is an `AzureError`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
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


@dataclass(frozen=True)
class Shape:
    """What all VMs of a pool have in common, and so what claims must share to share a pool.

    Attributes:
        vm_size: the VM size.
        kind: the kind of claim that it serves.
        os_sku: "Ubuntu" or "AzureLinux".
        os_disk_gib: 1 to 2048; None for AKS's default.
        labels: labels for the nodes.
        taints: `key=value:effect` or `key:effect`.
        zones: zone numbers, such as "1"; empty for AKS's choice.
        spot: evictable VMs at a lower price.
        subnet: resource id; "" for AKS's own.
        pod_subnet: resource id; "" for none.
        marks: further tags for the pool; those of a dedicated pool name its one claim.
        most: how many claims may share a pool.
    """

    vm_size: str
    kind: str = "Machine"
    os_sku: str = "Ubuntu"
    os_disk_gib: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: Sequence[str] = ()
    zones: Sequence[str] = ()
    spot: bool = False
    subnet: str = ""
    pod_subnet: str = ""
    marks: Mapping[str, str] = field(default_factory=dict)
    most: int = 1

    @cached_property
    def key(self) -> str:
        """Sixteen hex digits that are the same for equal shapes, in every process."""
        told = {name: value for name, value in vars(self).items() if name not in {"key", "most"}}
        for name in ("labels", "marks"):
            told[name] = dict(told[name])
        text = json.dumps(told, sort_keys=True, default=list)
        return sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """An agent pool to be made.

    Attributes:
        name: 1 to 12 lower-case letters and digits.
        shape: what its VMs are like.
        count: how many VMs.
        tags: Azure tags.
    """

    name: str
    shape: Shape
    count: int = 1
    tags: Mapping[str, str] = field(default_factory=dict)


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

    async def grow(self, name: str, count: int, *, etag: str) -> Pool:
        """Begins to bring the pool of that etag to `count` VMs, which are more than it has."""
        ...

    async def machines(self, name: str) -> frozenset[str]:
        """The names of the pool's VMs, each also that of its node, joined or not."""
        ...

    async def delete_machines(self, name: str, machines: Sequence[str]) -> None:
        """Begins to delete single VMs of a pool, whose count goes down with them."""
        ...

    async def delete(self, name: str, *, etag: str) -> bool:
        """Begins to delete the pool of that etag; False when there was none."""
        ...

    async def abort(self, name: str) -> None:
        """Asks AKS to give up the operation that runs on the pool."""
        ...
