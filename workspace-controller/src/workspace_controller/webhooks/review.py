"""The verdict on one admission request.

Invariant: deletion, status and metadata-only updates always pass, so that no rule, however new, can
lock an object that exists; an update is never refused for what was wrong before.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import date
from typing import Any

from pydantic import ValidationError

from controlkit.admission import AdmissionRequest, Verdict
from controlkit.kube.objects import Key
from gpuapis.workspace import Workspace
from workspace_controller.reading import complaints
from workspace_controller.rules.check import findings, fresh_findings, sentences, warnings
from workspace_controller.rules.configs import ConfigRead
from workspace_controller.rules.later_fields import PARTS, later_warnings
from workspace_controller.workspaces.target import Knowledge

ALLOWED = Verdict(allowed=True)

ReadConfig = Callable[[Key], Awaitable[ConfigRead]]


@dataclass(frozen=True)
class Judge:
    """Reads a request, and the ConfigMap that it newly names, and gives the verdict.

    Attributes:
        knowledge: the presets and sizes there are.
        today: the date.
        read: reads a ConfigMap within a short time; never raises.
    """

    knowledge: Knowledge
    today: Callable[[], date]
    read: ReadConfig

    async def __call__(self, request: AdmissionRequest) -> Verdict:
        """The verdict on a request about a Workspace."""
        if request.sub_resource or request.object is None:
            return ALLOWED
        if request.object.get("metadata", {}).get("deletionTimestamp") is not None:
            return ALLOWED
        if request.old_object is not None and not _differ(request.old_object, request.object):
            return ALLOWED
        try:
            new = Workspace.model_validate(request.object)
        except ValidationError as error:
            return _refused(error)
        old = _older(request.old_object)
        name = _new_config(old, new)
        config = await self.read(Key(request.namespace, name)) if name else None
        return review(old, new, self.knowledge, self.today(), config)


def review(
    old: Workspace | None,
    new: Workspace,
    knowledge: Knowledge,
    today: date,
    config: ConfigRead | None = None,
) -> Verdict:
    """The verdict on a creation (`old` is None) or an update; `config` is what it newly names."""
    if old is None:
        found = findings(new, knowledge, today, config)
    elif new.deleting or _asked(old) == _asked(new):
        return ALLOWED
    else:
        found = fresh_findings(old, new, knowledge, today, config)
    blamed = {each.field for each in found}
    told = [each for each in warnings(new, knowledge, today) if each.field not in blamed]
    return Verdict(
        allowed=not found,
        message=sentences(found),
        warnings=tuple(map(str, [*later_warnings(new), *told])),
    )


def _older(found: dict[str, Any] | None) -> Workspace | None:
    """The object before an update; one that cannot be read counts as none, and is judged whole."""
    if found is None:
        return None
    try:
        return Workspace.model_validate(found)
    except ValidationError:
        return None


def _refused(error: ValidationError) -> Verdict:
    found = (f"{field} {said}" for field, said in complaints(error))
    return Verdict(allowed=False, message="; ".join(found))


def _differ(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Whether an update touches more than metadata and status."""
    return any(old.get(part) != new.get(part) for part in PARTS)


def _asked(workspace: Workspace) -> tuple[Any, ...]:
    """What was written: an empty part counts as another than none, as for the API server."""
    return tuple(
        part.manifest() if part is not None else None
        for part in (workspace.resource, workspace.inference, workspace.tuning)
    )


def _new_config(old: Workspace | None, new: Workspace) -> str:
    """The ConfigMap that the update is the first to name; "" for none.

    One that was named before is the controller's to check: its content may have changed since, and
    that must not lock the Workspace.
    """
    named = _config(new)
    return "" if old is not None and _config(old) == named else named


def _config(workspace: Workspace) -> str:
    if workspace.inference is not None and workspace.tuning is None:
        return workspace.inference.config or ""
    if workspace.tuning is not None and workspace.inference is None:
        return workspace.tuning.config or ""
    return ""
