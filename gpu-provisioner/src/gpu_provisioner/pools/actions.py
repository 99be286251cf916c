"""What is seen of one pool, and what a plan for it can ask for.

Invariant: every action may be carried out twice, or cut off anywhere, without harm: requests to
Azure name absolute counts or single VMs, and are guarded by the version that was seen.
"""

from dataclasses import dataclass, field
from datetime import datetime

from gpu_provisioner.azure.errors import Failure
from gpu_provisioner.azure.pools import Pool, PoolSpec, Shape
from gpu_provisioner.claims.actions import Policy, Refusal
from gpu_provisioner.claims.claim import Claim


@dataclass(frozen=True, slots=True)
class AwaitTurn:
    """Go on only when AKS's limit leaves a turn for the pool."""

    pool: str


@dataclass(frozen=True, slots=True)
class MarkStarted:
    """Write on claims that the request for their VMs is about to be sent."""

    claims: tuple[Claim, ...]
    at: datetime


@dataclass(frozen=True, slots=True)
class CreatePool:
    """Begin to make the pool."""

    spec: PoolSpec


@dataclass(frozen=True, slots=True)
class GrowPool:
    """Begin to add VMs to the pool until it has `count`."""

    pool: Pool
    count: int


@dataclass(frozen=True, slots=True)
class ListMachines:
    """Ask Azure for the pool's VMs, and decide again."""

    pool: Pool


@dataclass(frozen=True, slots=True)
class Vouch:
    """Go on only if the API server says, now, that no claim wants these VMs.

    Attributes:
        pool: their pool.
        machines: the VMs, each named like its node.
        members: uids of the claims with a place in the pool; others would want a VM, too.
    """

    pool: Pool
    machines: tuple[str, ...]
    members: frozenset[str]


@dataclass(frozen=True, slots=True)
class DeleteMachines:
    """Begin to delete single VMs."""

    pool: Pool
    machines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DeletePool:
    """Begin to delete the pool with all that is in it."""

    pool: Pool


@dataclass(frozen=True, slots=True)
class Remember:
    """Have claims wait out a failure that Azure reported on the pool itself."""

    claims: tuple[Claim, ...]
    failure: Failure


@dataclass(frozen=True, slots=True)
class Unassign:
    """Take their place in the pool from claims, so that they get another one."""

    claims: tuple[Claim, ...]


@dataclass(frozen=True, slots=True)
class LetGo:
    """Tell claims that leave that no VM of theirs is left."""

    claims: tuple[Claim, ...]


Action = (
    AwaitTurn
    | MarkStarted
    | CreatePool
    | GrowPool
    | ListMachines
    | Vouch
    | DeleteMachines
    | DeletePool
    | Remember
    | Unassign
    | LetGo
)


@dataclass(frozen=True, slots=True)
class Member:
    """A claim with a place in the pool.

    Attributes:
        claim: the claim.
        shape: what it asks for; None when that cannot be made.
        node: the node that it is bound to, or was; "" for none.
        served: it has a node that works, or has had one.
        leaves: it is being deleted, and nothing runs on its node any more.
        refused: what Azure said when its VM was to be made.
    """

    claim: Claim
    shape: Shape | None
    node: str = ""
    served: bool = False
    leaves: bool = False
    refused: Refusal | None = None

    @property
    def stays(self) -> bool:
        """Nobody has asked for its deletion."""
        return self.claim.deleting is None

    @property
    def lacks(self) -> bool:
        """It waits for a VM."""
        return self.stays and not self.node and not self.claim.is_true("Launched")


@dataclass(frozen=True, slots=True)
class PoolSeen:
    """Everything that a decision on one pool depends on.

    Attributes:
        name: of the pool.
        now: the wall time.
        pool: as Azure last told it; None when there is none.
        members: the claims with a place in it, but for those whose VM is gone.
        machines: its VMs, as Azure told them since the pool last changed; None when it was not asked.
        joining: its nodes that work and are about to be bound.
        gathering: seconds for which more claims are expected to leave.
        unwanted_for: seconds since the pool has had more VMs than claims; 0.0 when it has not.
        view_age: seconds since Azure was asked for its pools; None when it never told them.
        blind: Azure's view of the pools cannot be trusted.
        undeletable: what Azure said when something of the pool was to be deleted.
        crowded: the cluster has as many pools as AKS allows.
        policy: what the operator decided.
    """

    name: str
    now: datetime
    pool: Pool | None
    members: tuple[Member, ...] = ()
    machines: frozenset[str] | None = None
    joining: int = 0
    gathering: float = 0.0
    unwanted_for: float = 0.0
    view_age: float | None = 0.0
    blind: bool = False
    undeletable: Refusal | None = None
    crowded: bool = False
    policy: Policy = field(default_factory=Policy)


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """What to do about one pool.

    Attributes:
        actions: in this order; the rest is dropped when one fails.
        look_again: seconds until the next look, if nothing happens before.
    """

    actions: tuple[Action, ...] = ()
    look_again: float | None = None
