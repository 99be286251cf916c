"""A claim, whatever its kind: the one value that everything but the dialects works on.

Invariant: a claim is immutable and free of dialect; conditions go by the names `Launched`,
`Registered` and `Initialized` in both.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

from controlkit.kube.objects import Key
from gpuapis.labels import (
    ASSIGNED_NODE,
    ASSIGNED_POOL,
    PROVISION_STARTED,
    TERMINATION_FINALIZER,
    TERMINATION_TIMESTAMP,
)

Kind = Literal["Machine", "NodeClaim"]
Status = Literal["True", "False", "Unknown"]


class Taint(NamedTuple):
    """A taint; two are the same when key and effect are."""

    key: str
    value: str
    effect: str

    def like(self, other: "Taint") -> bool:
        """Whether a node can carry only one of the two."""
        return self.key == other.key and self.effect == other.effect


class Requirement(NamedTuple):
    """A condition on the node's labels."""

    key: str
    operator: str
    values: tuple[str, ...]


class Condition(NamedTuple):
    """A condition as it stands, under its name without dialect."""

    aspect: str
    status: Status
    reason: str
    message: str
    since: datetime | None


@dataclass(frozen=True, slots=True)
class Claim:
    """One request for one node.

    Attributes:
        kind: which API it came by.
        name: unique among its kind.
        uid: tells it from an earlier claim of that name.
        version: resourceVersion that was read.
        generation: of the spec.
        created: when it was made.
        deleting: when its deletion was asked for.
        finalizers: who holds it.
        labels: for the node, too.
        annotations: ours included.
        requirements: conditions on the node's labels.
        requests: least amounts of resources.
        taints: for the node's whole life.
        startup_taints: that a daemon on the node removes.
        grace: the longest time that draining may take, in seconds; None for no limit.
        conditions: as they stand, by aspect.
        node_name: the node that it is bound to.
        provider_id: the cloud's name for that node's VM.
        status: the status as it was read, under its API names.
    """

    kind: Kind
    name: str
    uid: str
    version: str = ""
    generation: int = 1
    created: datetime | None = None
    deleting: datetime | None = None
    finalizers: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    requirements: tuple[Requirement, ...] = ()
    requests: Mapping[str, str | int] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    startup_taints: tuple[Taint, ...] = ()
    grace: float | None = None
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    node_name: str = ""
    provider_id: str = ""
    status: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        """Its key; claims have no namespace."""
        return Key("", self.name)

    @property
    def api_version(self) -> str:
        """Of its kind, for owner references."""
        return "karpenter.sh/v1alpha5" if self.kind == "Machine" else "karpenter.sh/v1"

    @property
    def held(self) -> bool:
        """Our finalizer keeps it until its VM is gone."""
        return TERMINATION_FINALIZER in self.finalizers

    @property
    def assigned(self) -> str:
        """The pool in which a place was written down for it; "" for none."""
        return self.labels.get(ASSIGNED_POOL, "")

    @property
    def seat(self) -> str:
        """The node that it was bound to last; "" for none."""
        return self.annotations.get(ASSIGNED_NODE, "") or self.node_name

    @property
    def started(self) -> datetime | None:
        """When the request for its pool was about to be sent; None when none ever was."""
        text = self.annotations.get(PROVISION_STARTED)
        try:
            moment = datetime.fromisoformat(text) if text else None
        except ValueError:
            # Somebody else wrote nonsense there: the oldest start that is surely true.
            return self.created
        return moment if moment is None or moment.tzinfo else self.created

    @property
    def drain_deadline(self) -> datetime | None:
        """When pods stop to count against the removal of the node; None for never."""
        if self.deleting is None:
            return None
        moments = [self.deleting + timedelta(seconds=self.grace)] if self.grace is not None else []
        with suppress(ValueError):
            moments.append(datetime.fromisoformat(self.annotations.get(TERMINATION_TIMESTAMP, "")))
        return min((each for each in moments if each.tzinfo), default=None)

    def is_true(self, aspect: str) -> bool:
        """Whether that condition holds."""
        condition = self.conditions.get(aspect)
        return condition is not None and condition.status == "True"
