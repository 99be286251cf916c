"""Fields that a person wrote and the API server dropped, for no version of ours has them.

Invariant: it only warns. Webhooks see an object after unknown fields are gone from it; what was
written is found in the note that `kubectl apply` leaves, so with other clients the API server's own
warning about unknown fields must do.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, get_args

from pydantic import BaseModel

from gpuapis.workspace import Workspace
from workspace_controller.reading import path
from workspace_controller.rules.finding import Finding, Rule, meant

LATER = Rule(
    "field-later", "Fields of later releases that this version lacks do nothing.", warns=True
)
UNKNOWN = Rule("field-unknown", "A field is one that a Workspace has.", warns=True)

NOTE: Final = "kubectl.kubernetes.io/last-applied-configuration"
PARTS: Final = ("resource", "inference", "tuning")
LATER_FIELDS: Final[Mapping[str, str]] = {
    "resource.partition": "this version gives a model whole GPUs",
}
MOST_WARNINGS: Final = 8


def later_warnings(workspace: Workspace) -> list[Finding]:
    """The fields that `kubectl apply` sent and the API server dropped."""
    try:
        written = json.loads(workspace.metadata.annotations.get(NOTE, "{}"))
    except (ValueError, RecursionError):
        return []
    if not isinstance(written, dict):
        return []
    top = {name: written[name] for name in PARTS if name in written}
    return list(_dropped(top, Workspace))[:MOST_WARNINGS]


def _dropped(
    written: Mapping[str, Any], model: type[BaseModel], *above: str | int
) -> Iterator[Finding]:
    fields = {info.alias or name: info.annotation for name, info in model.model_fields.items()}
    for name, value in written.items():
        where = path(*above, name)
        if name not in fields:
            reason = LATER_FIELDS.get(where)
            if reason is not None:
                yield LATER.broken(where, f"has no effect: {reason}")
            else:
                yield UNKNOWN.broken(
                    where, f"is no field of a Workspace and has no effect.{meant(name, fields)}"
                )
            continue
        inner = _model_in(fields[name])
        if inner is None:
            continue
        if isinstance(value, dict):
            yield from _dropped(value, inner, *above, name)
        elif isinstance(value, list):
            for number, each in enumerate(value):
                if isinstance(each, dict):
                    yield from _dropped(each, inner, *above, name, number)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that a field holds, alone, optionally or in a list; None for plain values."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_model_in(each) for each in get_args(annotation))
    return next((each for each in found if each is not None), None)
