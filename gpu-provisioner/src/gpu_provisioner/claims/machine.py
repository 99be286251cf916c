"""Machines, `karpenter.sh/v1alpha5`: Karpenter's older dialect of claims.

Invariant: conditions are sorted by type; a condition's time moves whenever its status, reason or
message does; `Ready` is the latest False step, else the latest Unknown one, else True.
"""

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any

from controlkit.kube.objects import Resource
from gpu_provisioner.claims.claim import Claim, Condition, Kind, Status
from gpu_provisioner.claims.dialect import (
    STEPS,
    bound_fields,
    ending_conditions,
    moment,
    read_claim,
    timestamp,
)
from gpu_provisioner.claims.progress import NOT_LAUNCHED, Progress, Step
from gpuapis.labels import OWNER_MARKS
from gpuapis.machine import Machine


class MachineDialect:
    """Reads Machines and writes their status."""

    view = Machine
    kind: Kind = "Machine"
    resource: Resource = Machine.RESOURCE

    def read(self, item: Machine) -> Claim | None:
        """The claim that a Machine is; None when no owner label makes it ours."""
        if not any(mark in item.metadata.labels for mark in OWNER_MARKS):
            return None
        conditions = (
            Condition(
                each.type.removeprefix("Machine"),
                _status(each.status),
                each.reason or "",
                each.message or "",
                moment(each.last_transition_time),
            )
            for each in item.status.conditions
        )
        return read_claim("Machine", item, conditions)

    def status(self, claim: Claim, progress: Progress, now: datetime) -> dict[str, Any]:
        """The status that tells this progress."""
        steps = (progress.launched, progress.registered, progress.initialized)
        dated = {
            aspect: _dated(claim, aspect, *_step_words(claim, aspect, step), now=now)
            for aspect, step in zip(STEPS, steps, strict=True)
        }
        ready = _root(dated.values())
        if progress.trouble is not None and ready.status == "True":
            ready = Condition(
                "Ready", "False", progress.trouble.reason, progress.trouble.text, None
            )
        dated["Ready"] = _dated(claim, "Ready", ready.status, ready.reason, ready.message, now=now)
        for aspect, words in ending_conditions(claim, progress).items():
            dated[aspect] = _dated(claim, aspect, *words, now=now)
        return {
            **bound_fields(claim, progress),
            "conditions": sorted(
                [_written(condition) for condition in dated.values()] + _others(claim, dated),
                key=lambda each: str(each["type"]),
            ),
        }


def _status(text: str) -> Status:
    return "True" if text == "True" else "False" if text == "False" else "Unknown"


def _step_words(claim: Claim, aspect: str, step: Step | None) -> tuple[Status, str, str]:
    old = claim.conditions.get(aspect)
    if step is None and old is not None:
        return old.status, old.reason, old.message
    if step is None or step.reason == NOT_LAUNCHED:
        return "False", "MachineNotLaunched", "Machine is not launched"
    if step.state == "done":
        return "True", "", ""
    on_its_way = step.state == "waiting" and aspect == "Launched"
    return "Unknown" if on_its_way else "False", step.reason, step.text


def _dated(
    claim: Claim, aspect: str, status: Status, reason: str, message: str, *, now: datetime
) -> Condition:
    old = claim.conditions.get(aspect)
    same = old is not None and (old.status, old.reason, old.message) == (status, reason, message)
    since = old.since if same and old is not None else None
    return Condition(aspect, status, reason, message, since or now)


def _root(steps: Collection[Condition]) -> Condition:
    """Of steps that changed at once the earliest one counts: it is the cause."""
    for status in ("False", "Unknown"):
        such = [step for step in steps if step.status == status]
        if such:
            return max(such, key=lambda step: timestamp(step.since))
    return Condition("Ready", "True", "", "", None)


def _written(condition: Condition) -> dict[str, Any]:
    prefix = "Machine" if condition.aspect in STEPS else ""
    core = condition.aspect in STEPS or condition.aspect == "Ready"
    written = {
        "type": prefix + condition.aspect,
        "status": condition.status,
        "lastTransitionTime": timestamp(condition.since),
    }
    if condition.reason:
        written["reason"] = condition.reason
    if condition.message:
        written["message"] = condition.message
    return written if core else {**written, "severity": "Info"}


def _others(claim: Claim, ours: Iterable[str]) -> list[dict[str, Any]]:
    """Conditions that other tools added stay as they are."""
    return [
        dict(each)
        for each in claim.status.get("conditions", ())
        if str(each["type"]).removeprefix("Machine") not in set(ours)
    ]
