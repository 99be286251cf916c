"""NodeClaims, `karpenter.sh/v1`: Karpenter's present dialect of claims.

Invariant: a condition's time moves only when its status does; what will be tried again is Unknown,
since readers stop at a False; `Ready` summarises the steps and comes last.
"""

from datetime import datetime
from typing import Any

from controlkit.kube.objects import Resource
from gpu_provisioner.claims.claim import Claim, Condition, Kind, Status
from gpu_provisioner.claims.dialect import (
    STEPS,
    bound_fields,
    ending_conditions,
    read_claim,
    seconds,
    timestamp,
)
from gpu_provisioner.claims.progress import NOT_LAUNCHED, Progress, Step
from gpuapis.labels import OWNER_MARKS
from gpuapis.nodeclaim import KaitoNodeClass, NodeClaim


class NodeClaimDialect:
    """Reads NodeClaims and writes their status."""

    view = NodeClaim
    kind: Kind = "NodeClaim"
    resource: Resource = NodeClaim.RESOURCE

    def read(self, item: NodeClaim) -> Claim | None:
        """The claim that a NodeClaim is; None when neither class nor owner label makes it ours."""
        own, given = KaitoNodeClass.RESOURCE, item.spec.node_class_ref
        named = (given.group, given.kind) == (own.group, own.kind)
        if not named and not any(mark in item.metadata.labels for mark in OWNER_MARKS):
            return None
        conditions = (
            Condition(each.type, each.status, each.reason, each.message, each.last_transition_time)
            for each in item.status.conditions
        )
        grace = seconds(item.spec.termination_grace_period)
        return read_claim("NodeClaim", item, conditions, grace=grace)

    def status(self, claim: Claim, progress: Progress, now: datetime) -> dict[str, Any]:
        """The status that tells this progress."""
        steps = (progress.launched, progress.registered, progress.initialized)
        worded = {
            aspect: _step_words(claim, aspect, step)
            for aspect, step in zip(STEPS, steps, strict=True)
        }
        worded |= ending_conditions(claim, progress)
        dated = [_dated(claim, aspect, *words, now=now) for aspect, words in worded.items()]
        root = _root([condition for condition in dated if condition.aspect in STEPS])
        held = [*dated, *_others(claim, {*worded, "Ready"})]
        held.sort(key=lambda condition: timestamp(condition.since))
        ready = _dated(claim, "Ready", *root, now=now)
        image = progress.bound.image if progress.bound else ""
        return {
            **bound_fields(claim, progress),
            **({"imageID": image} if image else {}),
            "conditions": [_written(condition, claim.generation) for condition in (*held, ready)],
        }


def _step_words(claim: Claim, aspect: str, step: Step | None) -> tuple[Status, str, str]:
    old = claim.conditions.get(aspect)
    if step is None and old is not None:
        return old.status, old.reason, old.message
    if step is None or step.reason == NOT_LAUNCHED:
        return "Unknown", "AwaitingReconciliation", "object is awaiting reconciliation"
    if step.state == "done":
        return "True", aspect, ""
    return "False" if step.state == "failed" else "Unknown", step.reason, step.text


def _dated(
    claim: Claim, aspect: str, status: Status, reason: str, message: str, *, now: datetime
) -> Condition:
    old = claim.conditions.get(aspect)
    since = old.since if old is not None and old.status == status else None
    return Condition(aspect, status, reason, message, since or now)


def _root(steps: list[Condition]) -> tuple[Status, str, str]:
    lacking = [step for step in steps if step.status != "True"]
    if not lacking:
        return "True", "Ready", ""
    told = ", ".join(f"{step.aspect}={step.status}" for step in lacking)
    if any(step.status == "False" for step in lacking):
        return "False", "UnhealthyDependents", told
    return "Unknown", "ReconcilingDependents", told


def _written(condition: Condition, generation: int) -> dict[str, Any]:
    return {
        "type": condition.aspect,
        "status": condition.status,
        "reason": condition.reason,
        "message": condition.message,
        "observedGeneration": generation,
        "lastTransitionTime": timestamp(condition.since),
    }


def _others(claim: Claim, ours: set[str]) -> list[Condition]:
    """Conditions that other tools added stay as they are."""
    return [condition for aspect, condition in claim.conditions.items() if aspect not in ours]
