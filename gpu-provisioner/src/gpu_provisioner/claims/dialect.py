"""What a dialect of claims must offer, so that both kinds are served by one state machine.

Invariant: a dialect is pure and knows nothing of Azure; it reads objects into claims and puts
progress into the conditions that its own readers expect.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final, Protocol, TypeVar

from controlkit.kube.objects import KubeObject, Resource
from gpu_provisioner.claims.claim import Claim, Condition, Kind, Requirement, Status, Taint
from gpu_provisioner.claims.progress import Progress
from gpuapis.machine import Machine
from gpuapis.machine import Taint as ApiTaint
from gpuapis.nodeclaim import ClaimTaint, NodeClaim

T = TypeVar("T", bound=KubeObject)

STEPS: Final = ("Launched", "Registered", "Initialized")
"""The steps of every claim, in order."""

_SPAN = re.compile(r"(\d+)(h|m|s)")
_UNITS = {"h": 3_600.0, "m": 60.0, "s": 1.0}


class Dialect(Protocol[T]):
    """One kind of claim."""

    @property
    def view(self) -> type[T]:
        """The class of the objects."""
        ...

    @property
    def kind(self) -> Kind:
        """The kind of the claims."""
        ...

    @property
    def resource(self) -> Resource:
        """Where the API server serves them."""
        ...

    def read(self, item: T) -> Claim | None:
        """The claim that an object is; None when it is not ours to serve."""
        ...

    def status(self, claim: Claim, progress: Progress, now: datetime) -> dict[str, Any]:
        """The status that tells this progress, under its API names, transition times included."""
        ...


def read_claim(
    kind: Kind,
    item: Machine | NodeClaim,
    conditions: Iterable[Condition],
    *,
    grace: float | None = None,
) -> Claim:
    """The claim that an object is.

    Args:
        kind: its kind.
        item: the object; both kinds call what they share alike.
        conditions: its conditions, under their names without dialect.
        grace: the longest time that draining may take, in seconds; None for no limit.
    """
    meta, spec, status = item.metadata, item.spec, item.status
    return Claim(
        kind=kind,
        name=meta.name,
        uid=meta.uid,
        version=meta.resource_version,
        generation=meta.generation,
        created=meta.creation_timestamp,
        deleting=meta.deletion_timestamp,
        finalizers=meta.finalizers,
        labels=meta.labels,
        annotations=meta.annotations,
        requirements=tuple(
            Requirement(each.key, each.operator, each.values) for each in spec.requirements
        ),
        requests=spec.resources.requests,
        taints=_taints(spec.taints),
        startup_taints=_taints(spec.startup_taints),
        grace=grace,
        conditions={each.aspect: each for each in conditions},
        node_name=status.node_name or "",
        provider_id=status.provider_id or "",
        status=status.manifest(),
    )


def _taints(taints: Iterable[ApiTaint | ClaimTaint]) -> tuple[Taint, ...]:
    return tuple(Taint(each.key, each.value, each.effect) for each in taints)


def bound_fields(claim: Claim, progress: Progress) -> dict[str, Any]:
    """The status fields that name the node; a claim that was bound once stays so."""
    bound = progress.bound
    if bound is None:
        kept = ("nodeName", "providerID", "imageID", "capacity", "allocatable")
        return {name: claim.status[name] for name in kept if name in claim.status}
    return {
        "nodeName": bound.name,
        "providerID": bound.provider_id,
        "capacity": dict(bound.capacity),
        "allocatable": dict(bound.allocatable),
    }


def ending_conditions(claim: Claim, progress: Progress) -> dict[str, tuple[Status, str, str]]:
    """How far a removal is: `Drained`, then `InstanceTerminating`."""
    step = progress.ending
    if step is None:
        return {}
    if step.reason == "Draining":
        return {"Drained": ("Unknown", step.reason, step.text)}
    drained: dict[str, tuple[Status, str, str]] = (
        {"Drained": ("True", "Drained", "")} if "Drained" in claim.conditions else {}
    )
    return {**drained, "InstanceTerminating": ("Unknown", step.reason, step.text)}


def timestamp(moment: datetime | None) -> str:
    """RFC 3339 in whole seconds, UTC; "" for no moment."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if moment else ""


def moment(text: str | None) -> datetime | None:
    """The moment that an RFC 3339 text names; None for none and for nonsense."""
    try:
        found = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return found if found is None or found.tzinfo else found.replace(tzinfo=UTC)


def seconds(span: str | None) -> float | None:
    """Seconds in a span such as "1h30m"; None for none."""
    if not span:
        return None
    return sum(int(number) * _UNITS[unit] for number, unit in _SPAN.findall(span))
