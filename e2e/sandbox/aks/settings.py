"""What can be set about the emulated cluster: identity at the start, behaviour at any time.

Invariant: every duration here is in emulated seconds. Emulated time runs `speed` times faster than
the wall clock, for boots, operations and throttles alike; nothing else divides by the speed.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from sandbox.aks.document import Document
from sandbox.aks.skus import Sku

Seconds = Annotated[float, Field(ge=0, le=86_400)]
Cores = Annotated[int, Field(ge=0, le=1_000_000)]

NO_ID = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True)
class Cluster:
    """Names of the one cluster that exists; a request for any other is refused as Azure does."""

    location: str = "eastus"
    subscription: str = NO_ID
    resource_group: str = "gpu-workspaces"
    name: str = "sandbox"
    tenant: str = NO_ID
    client: str = NO_ID
    kubernetes_version: str = "1.36.3"

    @property
    def node_resource_group(self) -> str:
        """The resource group in which AKS keeps the cluster's VMs."""
        return f"MC_{self.resource_group}_{self.name}_{self.location}"

    @property
    def id(self) -> str:
        """The ARM id of the cluster; ARM answers `resourcegroups` in lower case."""
        return (
            f"/subscriptions/{self.subscription}/resourcegroups/{self.resource_group}"
            f"/providers/Microsoft.ContainerService/managedClusters/{self.name}"
        )


class Timings(Document):
    """How long things take.

    The first two add up to 284 s and the third is 126 s, as publicly measured for a GPU pool; the
    split of the 284 s and the remaining values are chosen, not measured.
    """

    join: Seconds = 270.0
    """From the accepted PUT to a registered Node."""
    join_spread: Seconds = 10.0
    """By how much later, at most, each further VM of one operation registers: they come one by one."""
    ready: Seconds = 14.0
    """From the registered Node to a Ready one."""
    gpu: Seconds = 126.0
    """From the Ready Node to `nvidia.com/gpu` in its status."""
    operation: Seconds | None = None
    """From the accepted PUT to its end; by default it ends when its Nodes are Ready."""
    update: Seconds = 20.0
    """A PUT that neither adds nor removes a VM."""
    remove: Seconds = 90.0
    """From an accepted DELETE to its end: the VMs go at once, the pool at the end."""
    abort: Seconds = 15.0
    """From an accepted abort to the Canceled operation."""
    eviction_notice: Seconds = 30.0
    """From the Preempt event to the end of a spot VM."""


class Quota(Document):
    """How many vCPUs the subscription may use in the region; unset means without limit."""

    families: dict[str, Cores] = {}
    """vCPUs by VM family, as in `Standard NCASv3_T4 Family` (case and spaces do not matter)."""
    regional: Cores | None = None
    """vCPUs of all families together, spot aside."""
    spot: Cores | None = None
    """vCPUs of all spot VMs together."""
    checked: Literal["request", "operation"] = "request"
    """Where an excess shows: the PUT is refused, or its operation fails."""


class SoldOut(Document):
    """A VM size of which Azure has no more."""

    sku: str
    zones: tuple[str, ...] = ()
    """The zones concerned; none given means the whole region."""
    beyond: Annotated[int, Field(ge=0)] = 0
    """How many VMs there are for us. One that is asked for beyond them is not delivered, the others
    of its operation are, and the operation fails."""


class Settings(Document):
    """How the emulated cluster behaves; can be changed while it runs."""

    speed: Annotated[float, Field(gt=0, le=100_000)] = 1.0
    """Emulated seconds per second."""
    throttle: bool = True
    """Whether the token buckets of AKS apply."""
    timings: Timings = Timings()
    quota: Quota = Quota()
    sold_out: tuple[SoldOut, ...] = ()
    restricted: tuple[str, ...] = ()
    """VM sizes that the subscription may not use in this region."""
    restricted_zones: dict[str, tuple[str, ...]] = {}
    """By VM size, the zones in which the subscription may not use it."""
    refuse_retired: bool = False
    """Whether a size that Azure has retired is refused as restricted."""
    max_pools: Annotated[int, Field(ge=1)] = 100
    max_nodes_per_pool: Annotated[int, Field(ge=1)] = 1000
    max_nodes: Annotated[int, Field(ge=1)] = 5000
    """Nodes of all pools together."""
    page_size: Annotated[int, Field(ge=1, le=1000)] = 100
    """Pools per page of a list."""
    poll_after: Seconds = 10.0
    """What Retry-After says while an operation runs."""
    cluster_state: str = "Succeeded"
    """While this is anything else, the cluster itself is busy and every write answers 409."""
    delete_preempts: bool = False
    """Whether a DELETE ends a running operation of its pool instead of answering 409."""
    subnet: str = ""
    """The subnet of the system pool; a pool without this `vnetSubnetID` is then refused."""
    token_lifetime: Annotated[int, Field(ge=1)] = 86_399
    """Seconds (of the wall clock) until an access token expires."""
    federated_subject: str = ""
    """Subject that an assertion must carry; by default any assertion that is not empty will do."""

    def offered_zones(self, sku: Sku, region: str) -> tuple[str, ...]:
        """Returns the zones in which the subscription can use a size."""
        barred = {
            zone
            for name, zones in self.restricted_zones.items()
            if name.lower() == sku.name.lower()
            for zone in zones
        }
        return tuple(zone for zone in sku.zones_in(region) if zone not in barred)

    def refuses(self, sku: Sku) -> bool:
        """Says whether the subscription may not use a size anywhere in the region."""
        if sku.name.lower() in {name.lower() for name in self.restricted}:
            return True
        return self.refuse_retired and sku.retired is not None

    def scaled(self, seconds: float) -> float:
        """Returns emulated seconds as seconds of the wall clock."""
        return seconds / self.speed
