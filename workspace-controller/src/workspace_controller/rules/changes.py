"""What may not change once a Workspace is there.

Invariant: the API server keeps the same rules by the CRD, so that they hold without a webhook; what
is not named here may change.
"""

from collections.abc import Iterator
from typing import Final

from controlkit.kube.objects import ApiModel
from gpuapis.workspace import InferenceSpec, TuningSpec, Workspace
from workspace_controller.reading import shown
from workspace_controller.rules.finding import Finding, Rule

WORK = Rule("work-fixed", "inference and tuning are neither added nor removed.", server=True)
SIZE = Rule("size-fixed", "resource.instanceType does not change.", server=True)
SELECTOR = Rule("selector-fixed", "resource.labelSelector does not change.", server=True)
PRESET = Rule("preset-fixed", "The preset does not change.", server=True)
TEMPLATE = Rule("template-fixed", "A template changes, but is not added or removed.", server=True)
METHOD = Rule("method-fixed", "tuning.method does not change.", server=True)
INPUT = Rule("input-name-fixed", "tuning.input.name does not change.", server=True)

REMEDY: Final = "delete the Workspace and apply it anew"


def change_findings(old: Workspace, new: Workspace) -> Iterator[Finding]:
    """What an update changes and may not."""
    was, asked = old.resource.instance_type, new.resource.instance_type
    if was != asked:
        yield SIZE.broken(
            "resource.instanceType",
            f"cannot change from {shown(was or '')} to {shown(asked or '')}: {REMEDY}",
        )
    if not _same(old.resource.label_selector, new.resource.label_selector):
        yield SELECTOR.broken("resource.labelSelector", f"cannot change: {REMEDY}")
    for field in ("inference", "tuning"):
        if (getattr(old, field) is None) != (getattr(new, field) is None):
            yield WORK.broken(field, f"cannot be added or removed: {REMEDY}")
    if old.inference is not None and new.inference is not None:
        yield from _inference(old.inference, new.inference)
    if old.tuning is not None and new.tuning is not None:
        yield from _tuning(old.tuning, new.tuning)


def _same(old: ApiModel | None, new: ApiModel | None) -> bool:
    """Whether two parts are written alike: an empty part is another than none, as in CEL."""
    return (old and old.manifest()) == (new and new.manifest())


def _inference(old: InferenceSpec, new: InferenceSpec) -> Iterator[Finding]:
    if not _same(old.preset, new.preset):
        yield PRESET.broken("inference.preset", f"cannot change: {REMEDY}")
    if (old.template is None) != (new.template is None):
        yield TEMPLATE.broken("inference.template", f"cannot be added or removed: {REMEDY}")


def _tuning(old: TuningSpec, new: TuningSpec) -> Iterator[Finding]:
    if not _same(old.preset, new.preset):
        yield PRESET.broken("tuning.preset", f"cannot change: {REMEDY}")
    if (old.method or "").lower() != (new.method or "").lower():
        yield METHOD.broken(
            "tuning.method",
            f"cannot change from {shown(old.method or '')} to {shown(new.method or '')}: {REMEDY}",
        )
    if old.input.name != new.input.name:
        yield INPUT.broken(
            "tuning.input.name",
            f"cannot change from {shown(old.input.name or '')} to {shown(new.input.name or '')}: "
            f"{REMEDY}",
        )
