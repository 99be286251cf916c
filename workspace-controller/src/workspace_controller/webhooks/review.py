"""The verdict on one admission request, as a pure function of what is and what is to be.

Invariant: deletion, status and metadata-only updates always pass, so that no rule, however new, can
lock an object that exists; an update is never refused for what was wrong before.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any

from pydantic import ValidationError

from controlkit.admission import AdmissionRequest, Verdict
from gpuapis.workspace import Workspace
from workspace_controller.webhooks.rules import problems, warnings
from workspace_controller.workspaces.target import Knowledge

ALLOWED = Verdict(allowed=True)


@dataclass(frozen=True)
class Judge:
    """Reads a request and asks for the verdict."""

    knowledge: Knowledge
    today: Callable[[], date]

    def __call__(self, request: AdmissionRequest) -> Verdict:
        """The verdict on a request about a Workspace."""
        if request.sub_resource or request.object is None:
            return ALLOWED
        if request.object.get("metadata", {}).get("deletionTimestamp") is not None:
            return ALLOWED
        try:
            new = _workspace(request.object)
            old = _workspace(request.old_object) if request.old_object is not None else None
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            return Verdict(allowed=False, message=f"{where}: {first['msg']}")
        return review(old, new, self.knowledge, self.today())


def review(old: Workspace | None, new: Workspace, knowledge: Knowledge, today: date) -> Verdict:
    """The verdict on a creation (`old` is None) or an update."""
    if old is None:
        found = problems(new, knowledge, today)
    elif new.deleting or _spec(old) == _spec(new):
        return ALLOWED
    else:
        before = problems(old, knowledge, today)
        fresh = [each for each in problems(new, knowledge, today) if each not in before]
        found = [*_changes(old, new), *fresh]
    return Verdict(
        allowed=not found,
        message="; ".join(found),
        warnings=tuple(warnings(new, knowledge, today)),
    )


def _workspace(found: dict[str, Any]) -> Workspace:
    return Workspace.model_validate(found)


def _spec(workspace: Workspace) -> tuple[Any, ...]:
    return workspace.resource, workspace.inference, workspace.tuning


def _changes(old: Workspace, new: Workspace) -> Iterable[str]:
    """What may not change; the CRD says the same in CEL, for when this webhook is away."""
    remedy = "delete the Workspace and apply it anew"
    if old.resource.instance_type != new.resource.instance_type:
        yield (
            f"resource.instanceType cannot change from {old.resource.instance_type!r} to "
            f"{new.resource.instance_type!r}: {remedy}"
        )
    if old.resource.label_selector != new.resource.label_selector:
        yield f"resource.labelSelector cannot change: {remedy}"
    for field in ("inference", "tuning"):
        if (getattr(old, field) is None) != (getattr(new, field) is None):
            yield f"{field} cannot be added or removed: {remedy}"
    if old.inference is None or new.inference is None:
        return
    if old.inference.preset != new.inference.preset:
        yield f"inference.preset cannot change: {remedy}"
    if (old.inference.template is None) != (new.inference.template is None):
        yield f"inference.template cannot be added or removed: {remedy}"
