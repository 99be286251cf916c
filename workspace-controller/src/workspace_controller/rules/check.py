"""All rules together: what forbids a Workspace, and what had better be known of it.

Invariant: the rules ask nothing of the cluster or the network, so they cannot be slow or down, and
every breach is found, not the first alone.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import date

from gpuapis.workspace import PresetSpec, Workspace
from workspace_controller.presets.catalog import Preset
from workspace_controller.rules.adapters import adapters_warnings
from workspace_controller.rules.changes import change_findings
from workspace_controller.rules.configs import ConfigRead
from workspace_controller.rules.finding import Finding, Rule
from workspace_controller.rules.inference import inference_findings
from workspace_controller.rules.metadata import (
    annotation_findings,
    annotation_warnings,
    name_findings,
)
from workspace_controller.rules.preset import preset_warnings
from workspace_controller.rules.selector import selector_findings
from workspace_controller.rules.size import size_findings, size_warnings
from workspace_controller.rules.sources import data_warnings
from workspace_controller.rules.tuning import tuning_findings
from workspace_controller.workspaces.facts import Problem
from workspace_controller.workspaces.target import Knowledge, resolve

WORK = Rule("work-one", "A Workspace is exactly one of inference and tuning.", server=True)
SERVED = Rule("served", "What the controller could not serve is refused.")


def findings(
    workspace: Workspace, knowledge: Knowledge, today: date, config: ConfigRead | None = None
) -> list[Finding]:
    """Everything that forbids a new Workspace.

    Args:
        workspace: the Workspace.
        knowledge: the presets and sizes there are.
        today: for sizes that are out of service.
        config: the ConfigMap that it names, if it was read.
    """
    found = [
        *name_findings(workspace),
        *annotation_findings(workspace),
        *selector_findings(workspace.resource.label_selector, byo=knowledge.byo),
        *_work_findings(workspace, knowledge, config),
        *size_findings(workspace, _model(workspace, knowledge), knowledge, today),
    ]
    if not found:
        target = resolve(workspace, knowledge, today)
        if isinstance(target, Problem):
            field, _, said = target.message.partition(" ")
            found.append(SERVED.broken(field, said, said))
    return list(dict.fromkeys(found))


def fresh_findings(
    old: Workspace,
    new: Workspace,
    knowledge: Knowledge,
    today: date,
    config: ConfigRead | None = None,
) -> list[Finding]:
    """Everything that forbids an update: what may not change, and what was not wrong before."""
    before = Counter(each.breach for each in findings(old, knowledge, today))
    fresh = []
    for each in findings(new, knowledge, today, config):
        if before[each.breach] > 0:
            before[each.breach] -= 1
        else:
            fresh.append(each)
    return [*change_findings(old, new), *fresh]


def warnings(workspace: Workspace, knowledge: Knowledge, today: date) -> list[Finding]:
    """What is allowed, but is likely to disappoint."""
    found = [
        *annotation_warnings(workspace),
        *size_warnings(workspace, _model(workspace, knowledge), knowledge, today),
        *adapters_warnings(workspace),
    ]
    for field, spec in _presets(workspace):
        found += preset_warnings(field, spec)
    if workspace.tuning is not None:
        found += data_warnings(workspace.tuning.input, workspace.tuning.output)
    return found


def sentences(found: Iterable[Finding]) -> str:
    """The findings as one message."""
    return "; ".join(map(str, found))


def _work_findings(
    workspace: Workspace, knowledge: Knowledge, config: ConfigRead | None
) -> Iterator[Finding]:
    inference, tuning = workspace.inference, workspace.tuning
    if inference is not None and tuning is not None:
        yield WORK.broken(
            "inference", "and tuning are both given: use one Workspace for each", "both"
        )
    if inference is None and tuning is None:
        yield WORK.broken(
            "inference",
            "is missing: say what to serve, by inference.preset or inference.template, or what to "
            "fine-tune, by tuning",
            "neither",
        )
    if inference is not None:
        yield from inference_findings(workspace, knowledge, config)
    if tuning is not None:
        yield from tuning_findings(tuning, knowledge, config)


def _presets(workspace: Workspace) -> Iterator[tuple[str, PresetSpec]]:
    if workspace.inference is not None and workspace.inference.preset is not None:
        yield "inference.preset", workspace.inference.preset
    if workspace.tuning is not None and workspace.tuning.preset is not None:
        yield "tuning.preset", workspace.tuning.preset


def _model(workspace: Workspace, knowledge: Knowledge) -> Preset | None:
    named = [spec.name for _, spec in _presets(workspace)]
    return knowledge.catalog.find(named[0]) if len(named) == 1 else None
