"""The verdict on a Workspace from the schema and the rules alone, with no server."""

import importlib
import pkgutil
from typing import Any, Final

from admission_cases import TODAY, knowledge

from admission_fuzz.schema import fits, stored
from controlkit.crdgen import structural_schema
from gpuapis.workspace import Workspace
from workspace_controller import rules
from workspace_controller.rules.check import findings, fresh_findings
from workspace_controller.rules.finding import Rule

PARTS: Final = ("resource", "inference", "tuning")
SCHEMA: Final = structural_schema(Workspace)
NO_WORKSPACE: Final = "schema"


def all_rules() -> list[Rule]:
    """Every rule of every module."""
    modules = [f"{rules.__name__}.{each.name}" for each in pkgutil.iter_modules(rules.__path__)]
    named = [value for name in modules for value in vars(importlib.import_module(name)).values()]
    return [value for value in named if isinstance(value, Rule)]


KEPT_BY_SERVER: Final = {rule.name for rule in all_rules() if rule.server} | {NO_WORKSPACE}
"""What the API server refuses by itself, before it asks a webhook."""


def broken(new: dict[str, Any], old: dict[str, Any] | None = None) -> set[str]:
    """The rules that keep `new` from being created or, where there is an `old`, from replacing it."""
    found = _read(new)
    if found is None:
        return {NO_WORKSPACE}
    before = None if old is None else _read(old)
    if before is None:
        return {each.rule for each in findings(found, knowledge(), TODAY)}
    return {each.rule for each in fresh_findings(before, found, knowledge(), TODAY)}


def _read(manifest: dict[str, Any]) -> Workspace | None:
    metadata = manifest["metadata"]
    given = {part: manifest[part] for part in PARTS if part in manifest}
    kept = stored(given | {"metadata": metadata}, SCHEMA)
    if not fits(kept, SCHEMA):
        return None
    return Workspace.model_validate(kept | {"metadata": metadata})
