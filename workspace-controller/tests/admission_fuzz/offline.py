"""The verdict on a Workspace from the schema and the rules alone, with no server."""

from typing import Any

from admission_cases import TODAY, knowledge

from admission_fuzz.schema import fits, stored
from controlkit.crdgen import structural_schema
from gpuapis.workspace import Workspace
from workspace_controller.rules.changes import change_findings
from workspace_controller.webhooks.review import review

PARTS = ("resource", "inference", "tuning", "status")
SCHEMA = structural_schema(Workspace)


def allowed(new: dict[str, Any], old: dict[str, Any] | None = None) -> bool:
    """Whether `new` may be created or, where there is an `old`, take its place."""
    found = _read(new)
    before = None if old is None else _read(old)
    if found is None:
        return False
    if before is not None and list(change_findings(before, found)):
        return False
    return review(before, found, knowledge(), TODAY).allowed


def _read(manifest: dict[str, Any]) -> Workspace | None:
    given = {"metadata": manifest["metadata"]} | {
        part: manifest[part] for part in PARTS if part in manifest
    }
    # A new object has no status, whatever is sent.
    given.pop("status", None)
    kept = stored(given, SCHEMA)
    return (
        Workspace.model_validate(kept | {"metadata": given["metadata"]})
        if fits(kept, SCHEMA)
        else None
    )
