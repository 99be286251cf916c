"""What a person can act on, as Events.

Invariant: pure; one Event for one failure, however often it is met again, and none for what comes
right by itself.
"""

from typing import Literal, NamedTuple

from gpu_provisioner.claims.claim import Claim
from gpu_provisioner.claims.progress import Progress
from gpu_provisioner.claims.shape import image_family
from gpuapis.core import Pod


class Event(NamedTuple):
    """An Event on a claim."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


def failure_event(claim: Claim, progress: Progress) -> Event | None:
    """The Event for a step that has just begun to need a person; None when nothing is new."""
    steps = {"Launched": progress.launched, "Registered": progress.registered}
    for aspect, step in steps.items():
        if step is None or step.state not in {"refused", "failed"}:
            continue
        told = claim.conditions.get(aspect)
        if told is None or told.reason != step.reason:
            return Event("Warning", step.reason, step.message)
    return None


def claim_deleted(reason: str, message: str) -> Event:
    """The provisioner gave the claim up."""
    return Event("Warning", reason, f"{message} The claim is deleted, and its agent pool with it.")


def drain_blocked(pod: Pod, detail: str) -> Event:
    """A pod's disruption budget holds up the removal of a node that is paid for."""
    name = f"{pod.metadata.namespace}/{pod.metadata.name}"
    return Event("Warning", "FailedDraining", f"Pod {name} may not leave yet: {detail}")


def image_family_unknown(claim: Claim) -> Event:
    """The image family that is asked for does not exist."""
    return Event(
        "Warning",
        "UnknownImageFamily",
        f"Image family {image_family(claim)!r} is not known, so the node gets Ubuntu. "
        "Known are ubuntu and azurelinux.",
    )
