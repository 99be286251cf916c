"""The two kinds of claims behind one face: how each is read, written and addressed.

Invariant: nothing outside this package knows how a Machine differs from a NodeClaim.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from controlkit.kube.objects import KubeObject, ObjectMeta
from gpuapis import labels
from gpuapis.machine import Machine
from gpuapis.nodeclaim import NodeClaim
from gpuapis.workspace import Workspace
from workspace_controller.claims.causes import verdict
from workspace_controller.manifests.claims import ClaimNeed, NodeClass, machine, node_claim
from workspace_controller.workspaces.facts import Claim, ClaimKind, ClaimPhase

STEPS: Final = ("Launched", "Registered", "Initialized", "Ready")
MESSAGE_LIMIT: Final = 1000

AnyClaim = Machine | NodeClaim


@dataclass(frozen=True)
class Step:
    """One condition of a claim, in whichever dialect."""

    status: str
    reason: str
    message: str
    at: datetime | None


VIEWS: Final[Mapping[ClaimKind, type[Machine] | type[NodeClaim]]] = {
    "Machine": Machine,
    "NodeClaim": NodeClaim,
}


def kind_of(claim: KubeObject) -> ClaimKind:
    """Which kind of claim it is."""
    return "Machine" if isinstance(claim, Machine) else "NodeClaim"


def write(
    kind: ClaimKind, workspace: Workspace, need: ClaimNeed, node_class: NodeClass, *, azure: bool
) -> dict[str, Any]:
    """The manifest of a claim of that kind."""
    if kind == "Machine":
        return machine(workspace, need)
    return node_claim(workspace, need, node_class, azure=azure)


def read(claim: AnyClaim, uid: str) -> Claim:
    """What a claim says, for the Workspace with that UID."""
    steps = _steps(claim)
    meta = claim.metadata
    phase, since = _phase(meta, steps)
    # Once it is on its way out, Ready tells of the end, no longer of what went wrong.
    telling = STEPS[:-1] if phase == "deleting" else STEPS
    cause = next(
        (steps[name] for name in telling if name in steps and steps[name].status != "True"),
        Step("True", "", "", None),
    )
    return Claim(
        name=meta.name,
        kind=kind_of(claim),
        phase=phase,
        since=since,
        slot=_number(meta.labels.get(labels.SLOT)),
        attempt=_number(meta.annotations.get(labels.ATTEMPT)) or 0,
        uid=meta.uid,
        ours=meta.annotations.get(labels.WORKSPACE_UID, uid) == uid,
        verdict="progress"
        if phase == "ready"
        else verdict(cause.status, cause.reason, cause.message),
        reason=cause.reason,
        message=cause.message[:MESSAGE_LIMIT],
        caused_at=cause.at,
        node=claim.status.node_name or "",
        milestones=(_created(meta), *(_reached(steps, name) for name in _MILESTONES)),
    )


_MILESTONES: Final = ("Launched", "Registered", "Ready")


def _phase(meta: ObjectMeta, steps: Mapping[str, Step]) -> tuple[ClaimPhase, datetime]:
    """How far the claim is, and since when."""
    created = _created(meta)
    if meta.deletion_timestamp is not None:
        return "deleting", meta.deletion_timestamp
    if not steps:
        return "silent", created
    reached = ((_reached(steps, name), phase) for name, phase in _PHASES)
    for at, phase in reached:
        if at is not None:
            return phase, at
    launched = steps.get("Launched")
    return "launching", (launched and launched.at) or created


_PHASES: Final[tuple[tuple[str, ClaimPhase], ...]] = (
    ("Ready", "ready"),
    ("Registered", "preparing"),
    ("Launched", "joining"),
)


def _reached(steps: Mapping[str, Step], name: str) -> datetime | None:
    """When the step became True; None when it is not."""
    step = steps.get(name)
    return step.at if step is not None and step.status == "True" else None


def _steps(claim: AnyClaim) -> dict[str, Step]:
    if isinstance(claim, Machine):
        return {
            condition.type.removeprefix("Machine"): Step(
                condition.status,
                condition.reason or "",
                condition.message or "",
                _moment(condition.last_transition_time, claim.metadata),
            )
            for condition in claim.status.conditions
        }
    return {
        condition.type: Step(
            condition.status,
            condition.reason,
            condition.message,
            condition.last_transition_time or _created(claim.metadata),
        )
        for condition in claim.status.conditions
    }


def _moment(text: str | None, meta: ObjectMeta) -> datetime:
    """A Machine's times are plain strings; one that cannot be read counts as creation."""
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return _created(meta)
    return moment if moment.tzinfo is not None else _created(meta)


def _created(meta: ObjectMeta) -> datetime:
    assert meta.creation_timestamp is not None, "the API server stamps every object"
    return meta.creation_timestamp


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None


def owner_index(claim: AnyClaim) -> Iterable[str]:
    """For a cache: the Workspace that a claim is for, as `namespace/name`."""
    owner = claim.metadata.labels
    if labels.WORKSPACE in owner and labels.WORKSPACE_NAMESPACE in owner:
        yield f"{owner[labels.WORKSPACE_NAMESPACE]}/{owner[labels.WORKSPACE]}"


def node_index(claim: AnyClaim) -> Iterable[str]:
    """For a cache: the node that a claim became."""
    if claim.status.node_name:
        yield claim.status.node_name
