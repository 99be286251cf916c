"""A fine-tuning: `tuning`.

Invariant: an admitted tuning names a model, a method, data and a place for the result that a Job
can be made of.
"""

from collections.abc import Iterator

from gpuapis.workspace import TuningSpec
from workspace_controller.presets.catalog import METHODS, Catalog
from workspace_controller.reading import shown
from workspace_controller.rules import training_config
from workspace_controller.rules.configs import ConfigRead, config_findings
from workspace_controller.rules.finding import Finding, Rule, meant
from workspace_controller.rules.objects import name_findings
from workspace_controller.rules.preset import preset_findings
from workspace_controller.rules.sources import destination_findings, source_findings
from workspace_controller.workspaces.target import Knowledge

PRESET = Rule("tuning-preset", "tuning.preset is given.", server=True)
TUNABLE = Rule("preset-tunable", "The preset to tune is one that can be fine-tuned.")
METHOD = Rule("tuning-method", "tuning.method is lora or qlora, in any case.", server=True)


def tuning_findings(
    tuning: TuningSpec, knowledge: Knowledge, config: ConfigRead | None
) -> Iterator[Finding]:
    """What is wrong with a fine-tuning; `config` is what `tuning.config` names, if it was read."""
    if tuning.preset is None:
        yield PRESET.broken("tuning.preset", "is missing: name the model to tune")
    else:
        yield from preset_findings("tuning.preset", tuning.preset, knowledge.catalog)
        yield from _tunable(tuning.preset.name, knowledge.catalog)
    method = (tuning.method or "").lower()
    if method not in METHODS:
        found = f"is {shown(tuning.method)}.{meant(method, METHODS)}" if method else "is missing."
        yield METHOD.broken("tuning.method", f"{found} Allowed: {', '.join(METHODS)}", method)
    if tuning.config is not None:
        yield from name_findings("tuning.config", tuning.config)
    if config is not None:
        problems = training_config.problems(config.data or {}, method)
        yield from config_findings("tuning.config", config, training_config.CONTENT, problems)
    yield from source_findings(tuning.input, private=knowledge.private_urls)
    yield from destination_findings(tuning.output)


def _tunable(name: str, catalog: Catalog) -> Iterator[Finding]:
    preset = catalog.find(name)
    if preset is not None and preset.tuning is None:
        tunable = ", ".join(each.name for each in catalog.presets if each.tuning is not None)
        yield TUNABLE.broken(
            "tuning.preset.name",
            f"{shown(name)} cannot be fine-tuned. Presets that can: {tunable}",
            name,
        )
