"""What a plan can ask for, and what it is decided on.

Invariant: every action may be carried out twice, or cut off anywhere, without harm.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from gpu_provisioner.azure.errors import Failure
from gpu_provisioner.azure.pools import Pool, Shape
from gpu_provisioner.claims.claim import Claim
from gpu_provisioner.claims.progress import Progress
from gpuapis.core import Node, Pod

BOOTSTRAPS: Final = 3
"""VMs that may fail to become nodes before it is taken for more than bad luck."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Put our finalizer and the labels that are settled on the claim."""

    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Bind:
    """Write on the claim which node is its own."""

    node: Node


@dataclass(frozen=True, slots=True)
class RegisterNode:
    """Give the node what the claim asks for."""

    node: Node


@dataclass(frozen=True, slots=True)
class MarkInitialized:
    """Write on the node that it is ready for use."""

    node: Node


@dataclass(frozen=True, slots=True)
class Cordon:
    """Keep new pods away from the node."""

    node: Node


@dataclass(frozen=True, slots=True)
class Evict:
    """Ask a pod to leave, as far as its disruption budget allows."""

    pod: Pod


@dataclass(frozen=True, slots=True)
class Leave:
    """Tell the pool that the claim is done with its VM, or its claim to one."""

    pool: str


@dataclass(frozen=True, slots=True)
class ReleaseNode:
    """Let go of the node, whose VM is going or gone, and delete its object."""

    node: Node


@dataclass(frozen=True, slots=True)
class DeleteClaim:
    """Delete the claim, which removes all that was made for it."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class ConfirmGone:
    """Go on only if Azure says, now, that there is no such pool."""

    pool: str


@dataclass(frozen=True, slots=True)
class Release:
    """Let go of the claim: nothing is left of what was made for it."""


Action = (
    Hold
    | Bind
    | RegisterNode
    | MarkInitialized
    | Cordon
    | Evict
    | Leave
    | ReleaseNode
    | DeleteClaim
    | ConfirmGone
    | Release
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """What Azure last said no to.

    Attributes:
        failure: what it means.
        attempts: how many times in a row.
        until: when the next try may be.
        pool_busy: an operation on the pool itself was in the way, whose end can be seen.
    """

    failure: Failure
    attempts: int
    until: datetime
    pool_busy: bool = False

    def wait(self, pool: Pool | None, now: datetime) -> float:
        """Seconds until Azure may be asked again; 0 when it may be now."""
        if self.pool_busy and (pool is None or pool.state != "InProgress"):
            return 0.0  # the operation that was in the way has ended
        return max(0.0, (self.until - now).total_seconds())


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator has set.

    Attributes:
        launch_timeout: seconds that AKS may take to make a pool.
        registration_timeout: seconds until a node must have joined.
        on_timeout: what becomes of a claim that is over time.
        on_insufficient_capacity: what becomes of a claim that Azure has no machine for.
        region: the cluster's region, for messages.
    """

    launch_timeout: float = 900.0
    registration_timeout: float = 900.0
    on_timeout: Literal["delete", "mark"] = "delete"
    on_insufficient_capacity: Literal["retry", "delete"] = "retry"
    region: str = ""


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything that a decision on one claim depends on.

    Attributes:
        claim: the claim.
        now: the wall time.
        wanted: the shape of the pool that it needs; a text says why there is none.
        place: the name of the pool that it has a place in; "" for none.
        pool: that pool, as Azure last told it.
        nodes: its nodes, or the one that it is to have.
        pods: the pods on its nodes; only while they are drained.
        gone: its pool has seen to it that no VM of it is left.
        view_age: seconds since Azure was asked for its pools; None when it never told them.
        blind: why Azure's view of the pools cannot be trusted; None when it can.
        refused: what Azure said when the pool was to be made; None when nothing is the matter.
        undeletable: what Azure said when its VM was to be deleted, or that confirmed.
        policy: what the operator decided.
    """

    claim: Claim
    now: datetime
    wanted: Shape | str
    place: str = ""
    pool: Pool | None = None
    nodes: tuple[Node, ...] = ()
    pods: tuple[Pod, ...] = ()
    gone: bool = False
    view_age: float | None = 0.0
    blind: Failure | None = None
    refused: Refusal | None = None
    undeletable: Refusal | None = None
    policy: Policy = field(default_factory=Policy)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do about one claim.

    Attributes:
        actions: in this order; the rest is dropped when one fails.
        progress: what to report; None leaves the status as it is.
        look_again: seconds until the next look, if nothing happens before.
        fresh: seconds within which Azure's pools should be listed; None for no hurry.
    """

    actions: tuple[Action, ...] = ()
    progress: Progress | None = None
    look_again: float | None = None
    fresh: float | None = None
