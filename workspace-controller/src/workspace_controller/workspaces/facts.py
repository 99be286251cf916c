"""What one pass has seen, flat and immutable, and what it decides to do about it.

Invariant: these types hold plain values only, so that a decision can be tested, replayed and
explained without a cluster.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal

from workspace_controller.manifests.model import WorkloadKind
from workspace_controller.tuning.facts import Record, Tuning

ClaimKind = Literal["Machine", "NodeClaim"]
ClaimApi = Literal["auto", "machine", "nodeclaim", "byo"]
"""How nodes come; `auto` is what the cluster serves, Machine first; `byo`: the user brings them."""
WORKLOADS: Final[tuple[WorkloadKind, ...]] = ("Deployment", "StatefulSet")
ChildKind = Literal["Service", "HeadlessService", "Deployment", "StatefulSet", "Job"]
Owner = Literal["absent", "ours", "previous", "foreign"]
"""Whose an object with the name of a child is: ours, a deleted Workspace's of our name, others'."""

ClaimPhase = Literal["silent", "launching", "joining", "preparing", "ready", "deleting"]
Verdict = Literal["progress", "blocked", "broken", "hopeless"]
"""What a claim's cause asks for: patience; attention while the provisioner retries; another
attempt; an edit by a person."""


@dataclass(frozen=True)
class Claim:
    """One Machine or NodeClaim that carries this Workspace's labels."""

    name: str
    kind: ClaimKind
    phase: ClaimPhase
    since: datetime
    """When the claim entered its phase."""
    slot: int | None = 0
    """None for a claim that another release made; it fills any slot."""
    attempt: int = 0
    uid: str = ""
    ours: bool = True
    """False when it was made for an earlier Workspace of the same name."""
    verdict: Verdict = "progress"
    reason: str = ""
    message: str = ""
    caused_at: datetime | None = None
    """When the condition that gives the cause took its status; None when all is well."""
    node: str = ""
    milestones: tuple[datetime | None, ...] = ()
    """When the claim was created, launched, registered and ready."""

    @property
    def live(self) -> bool:
        """Not on its way out."""
        return self.phase != "deleting"


@dataclass(frozen=True)
class Deadlines:
    """How long each stage of a node's making may take before a person is told."""

    answer: timedelta = timedelta(seconds=60)
    """From a claim's creation to the first sign of a provisioner, which takes a living one seconds."""
    launch: timedelta = timedelta(minutes=20)
    """From that sign to a launched VM; provisioners give up after 15 minutes, and say so."""
    join: timedelta = timedelta(minutes=20)
    """From launch to a node in the cluster; later than that, the claim is replaced."""
    gpu: timedelta = timedelta(minutes=10)
    """From joining to a node that offers its GPUs."""


@dataclass(frozen=True)
class Node:
    """A node of this Workspace."""

    name: str
    ready: bool = True
    gpus: int = 0
    """Allocatable GPUs."""
    labelled: bool = True
    """Whether it carries `accelerator=nvidia`."""
    trouble: str = ""
    """Why the node is not ready, in its own words."""
    pods: int = 0
    """Living pods of this Workspace on it."""


@dataclass(frozen=True)
class SlotRecord:
    """What must outlive a claim: which attempt the slot is at, and how often it failed."""

    slot: int
    claim: str
    attempt: int = 0
    failures: int = 0
    lost_at: datetime | None = None
    """When the claim was found failed or gone; None while it lives."""
    retries: int = 0
    """How often a claim that had failed was tried again by its provisioner."""
    failing: bool = False
    """The claim lives and has failed; its provisioner may try again."""
    reason: str = ""
    """What the last failure gave as its cause."""
    message: str = ""

    @property
    def ordinal(self) -> int:
        """Which try at a node is under way, since the slot last was well."""
        return self.failures + self.retries + 1


@dataclass(frozen=True)
class Attempt:
    """One try at a node: from a claim's creation, or its next try, to success or failure."""

    slot: int
    claim: str
    sku: str
    started_at: datetime
    ended_at: datetime | None = None
    """When it failed or the claim went; None while it is under way or its node serves."""
    reason: str = ""
    message: str = ""


@dataclass(frozen=True)
class Child:
    """One object that this Workspace may have to serve its model."""

    kind: ChildKind
    wanted: str = ""
    """The hash of what it should be; "" when it should not be."""
    found: str = ""
    """The hash that the object carries."""
    owner: Owner = "absent"
    deleting: bool = False
    name: str = ""

    @property
    def title(self) -> str:
        """Its kind and name, for a sentence."""
        kind = "Service" if self.kind == "HeadlessService" else self.kind
        return f"{kind} {self.name}".rstrip()


@dataclass(frozen=True)
class Serving:
    """How the workload is doing, in pods."""

    asked: int = 0
    present: int = 0
    ready: int = 0
    updated: int = 0
    current: bool = True
    """Its controller has seen the latest spec."""
    refusal: str = ""
    """Why pods cannot even be created, in the API server's words."""


@dataclass(frozen=True)
class PodTrouble:
    """The worst thing that a pod of this Workspace says."""

    reason: str
    message: str


@dataclass(frozen=True)
class Problem:
    """Why this Workspace cannot be served at all, whatever the cluster does."""

    reason: str
    message: str
    passing: bool = False
    """Time alone may mend it."""


@dataclass(frozen=True)
class Observed:
    """All that one pass knows."""

    now: datetime
    uid: str = ""
    deleting_since: datetime | None = None
    held: bool = True
    """Our finalizer is on the Workspace."""
    problem: Problem | None = None
    awaits: Problem | None = None
    """What the spec refers to and is not there yet: until it is, no node is asked for."""
    vetted: bool = True
    """Nothing that the user wrote could make the API server refuse the workload."""
    look_again: float | None = None
    """Seconds until what no watch shows has to be read again."""
    deadlines: Deadlines = Deadlines()
    wanted: int = 1
    """Nodes that the Workspace is to have."""
    instance_type: str = ""
    """The size that each claim asks for."""
    gpus: int = 1
    """GPUs that each node must offer."""
    claim_kind: ClaimKind | None = "Machine"
    """The kind to create; None when the cluster serves no claims."""
    byo: bool = False
    """Nodes are brought by the user; no claim is ever created."""
    claims: tuple[Claim, ...] = ()
    claims_are_live: bool = False
    """The claims were read from the API server in this pass, not from a cache."""
    nodes: Mapping[str, Node] = field(default_factory=dict)
    reserved: tuple[str, ...] = ()
    """Existing nodes that this Workspace has taken, sorted."""
    adoptable: tuple[str, ...] = ()
    """Existing free nodes that it may take, best first."""
    records: tuple[SlotRecord, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    """What the status tells of earlier tries, oldest first."""
    children: tuple[Child, ...] = ()
    serving: Serving = Serving()
    pods: tuple[PodTrouble, ...] = ()
    """What goes wrong in pods, worst first."""
    loading: str = ""
    """What the pods are at, when nothing is wrong."""
    once_ready: bool = False
    """The Workspace has served before."""
    address: str = ""
    """Where the model answers."""
    tuning: Tuning | None = None
    """The run of a tuning Workspace; None for one that serves."""


# ---- what a pass does ----


@dataclass(frozen=True)
class AddFinalizer:
    """Hold the Workspace, before anything that costs money."""


@dataclass(frozen=True)
class Order:
    """One claim to create."""

    slot: int
    attempt: int
    after: str = ""
    """The claim it replaces, which must be gone by now."""


@dataclass(frozen=True)
class CreateClaims:
    """Create these claims, all at once."""

    kind: ClaimKind
    orders: tuple[Order, ...]


@dataclass(frozen=True)
class DeleteClaims:
    """Ask for the end of these claims, all at once."""

    claims: tuple[Claim, ...]


@dataclass(frozen=True)
class ReserveNode:
    """Take an existing node for this Workspace."""

    name: str


@dataclass(frozen=True)
class ReleaseNodes:
    """Give back nodes that were taken."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class LabelNode:
    """Put `accelerator=nvidia` on a node."""

    name: str


@dataclass(frozen=True)
class ApplyChild:
    """Make a child what it should be."""

    kind: ChildKind


@dataclass(frozen=True)
class RemoveChild:
    """Delete a child."""

    kind: ChildKind
    with_pods: bool = False
    """Let it be there until its pods are gone, so that its successor finds their GPUs free."""


@dataclass(frozen=True)
class Vet:
    """Have the API server judge the workload that is to be, before a node is paid for it."""


@dataclass(frozen=True)
class Scale:
    """Set the number of the Deployment's pods."""

    replicas: int


@dataclass(frozen=True)
class VetRun:
    """Have the API server judge the Job of a tuning run, without making it."""

    run: str
    output: str
    """The folder of results."""


@dataclass(frozen=True)
class StartRun:
    """Make the Job of a tuning run."""

    run: str
    output: str
    """The folder of results."""
    copy_defaults: bool
    """The Workspace names no training configuration: copy the defaults for the Job."""


@dataclass(frozen=True)
class RemoveFinalizer:
    """Let the Workspace go."""


Action = (
    AddFinalizer
    | CreateClaims
    | DeleteClaims
    | ReserveNode
    | ReleaseNodes
    | LabelNode
    | ApplyChild
    | RemoveChild
    | Vet
    | Scale
    | VetRun
    | StartRun
    | RemoveFinalizer
)


# ---- what a pass says ----


@dataclass(frozen=True)
class Finding:
    """The state of one aspect, for a condition."""

    outlook: Literal["good", "pending", "bad", "unknown"]
    """`unknown`: how it is could not be seen or seen to."""
    reason: str
    message: str = ""
    brief: str = ""
    """The message for conditions that only sum this one up; "" for the same."""
    event: str = ""
    """The message for an Event, which must not change while the cause does not; "" for the same."""


@dataclass(frozen=True)
class Report:
    """What the Workspace's status is to say; None leaves that part as it is."""

    workspace: Finding
    claims: Finding | None = None
    claim_kind: ClaimKind = "Machine"
    resource: Finding | None = None
    inference: Finding | None = None
    deleting: Finding | None = None
    nodes: tuple[str, ...] | None = None
    records: tuple[SlotRecord, ...] | None = None
    started: Finding | None = None
    """Whether a tuning run has begun."""
    state: Literal["Pending", "Running", "Succeeded", "Failed"] | None = None
    """The one word for a tuning Workspace; None for one that serves."""
    run: Record | None = None
    claims_gone: bool = False
    """There are no claims to speak of any more: their condition goes too."""
    unseen: bool = False
    """How things are was not seen: the spec, which may be new, is not answered yet."""
    attempts: tuple[Attempt, ...] | None = None


@dataclass(frozen=True)
class Plan:
    """What to do, what to say, and when to look again if nothing changes before."""

    actions: tuple[Action, ...] = ()
    report: Report | None = None
    look_again: float | None = None
    """Seconds."""
