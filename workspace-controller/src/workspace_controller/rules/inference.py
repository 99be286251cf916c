"""A model to serve: `inference`.

Invariant: an admitted inference is a preset or a template that a Deployment can be made of.
"""

from collections.abc import Iterator

from gpuapis.workspace import InferenceSpec, PresetSpec, Workspace
from workspace_controller.manifests.template_pod import template_problems
from workspace_controller.rules import inference_config
from workspace_controller.rules.adapters import adapters_findings
from workspace_controller.rules.configs import ConfigRead, config_findings
from workspace_controller.rules.finding import Finding, Rule
from workspace_controller.rules.objects import name_findings
from workspace_controller.rules.preset import preset_findings
from workspace_controller.workspaces.target import Knowledge, engine_problem

ONE = Rule("inference-one", "inference is exactly one of preset and template.", server=True)
TEMPLATE = Rule("template", "inference.template is a pod template that a Deployment takes.")
ENGINE = Rule(
    "preset-engine", "Annotation kaito.sh/runtime asks for an engine that can serve the preset."
)
CONFIG_FOR_PRESETS = Rule("config-preset", "inference.config is for presets, not for a template.")


def inference_findings(
    workspace: Workspace, knowledge: Knowledge, config: ConfigRead | None
) -> Iterator[Finding]:
    """What is wrong with a model to serve; `config` is what `inference.config` names, if read."""
    inference = workspace.inference
    assert inference is not None
    preset, template = inference.preset, inference.template
    if (preset is None) == (template is None):
        given = "neither is" if preset is None else "both are"
        yield ONE.broken(
            "inference",
            f"takes exactly one of preset and template; {given} given",
            given,
        )
    if preset is not None:
        yield from preset_findings("inference.preset", preset, knowledge.catalog)
        yield from _engine_findings(workspace, preset, knowledge)
    if template is not None:
        for field, said in template_problems(template):
            yield TEMPLATE.broken(field, said, said)
    yield from adapters_findings(workspace)
    yield from _config_findings(inference, knowledge, config)


def _engine_findings(
    workspace: Workspace, asked: PresetSpec, knowledge: Knowledge
) -> Iterator[Finding]:
    preset = knowledge.catalog.find(asked.name)
    refused = engine_problem(workspace, preset) if preset is not None else None
    if refused is not None:
        field, _, said = refused.partition(" ")
        yield ENGINE.broken(field, said, said)


def _config_findings(
    inference: InferenceSpec, knowledge: Knowledge, config: ConfigRead | None
) -> Iterator[Finding]:
    if inference.config is None:
        return
    if inference.preset is None and inference.template is not None:
        yield CONFIG_FOR_PRESETS.broken(
            "inference.config",
            "is for presets: the server of inference.template has to read its settings itself, from "
            "a volume of the template",
        )
    yield from name_findings("inference.config", inference.config)
    if config is not None:
        model = knowledge.catalog.find(inference.preset.name) if inference.preset else None
        context = model.context_tokens if model is not None else None
        problems = inference_config.problems(config.data or {}, context)
        yield from config_findings("inference.config", config, inference_config.CONTENT, problems)
