"""Resolves what a Workspace asks for into what it needs: model, machine size, GPUs, disk.

Invariant: the same spec, catalogue and table give the same target; what cannot be served is a
`Problem` with a sentence, never an exception.
"""

import re
from dataclasses import dataclass, replace
from datetime import date
from typing import Final

from gpuapis import labels
from gpuapis.workspace import PresetSpec, TuningSpec, Workspace
from workspace_controller.manifests.model_pod import wished_engine
from workspace_controller.manifests.ownership import selector_labels
from workspace_controller.manifests.template_pod import template_problem
from workspace_controller.presets.catalog import METHODS, Catalog, Engine, Method, Preset
from workspace_controller.rules.adapters import adapters_problem
from workspace_controller.skus.choice import Trial, choose, serving
from workspace_controller.skus.choice import tuning as tuned
from workspace_controller.skus.fit import Fit, fit, utilisation_percent
from workspace_controller.skus.table import Sku, SkuTable
from workspace_controller.workspaces import reasons
from workspace_controller.workspaces.facts import Problem


@dataclass(frozen=True)
class Target:
    """What a Workspace needs."""

    preset: Preset | None
    """None for a template."""
    instance_type: str
    """"" where the user brings nodes of any size."""
    gpus: int
    """GPUs that each node must offer."""
    disk: str
    """Disk that each node must have, as a quantity; "0" for the provider's default."""
    pod_gpus: int = 1
    """GPUs that each pod of a preset gets."""
    nodes: int = 1
    """Nodes that one copy of the model is spread over."""
    engine: Engine | None = None
    """The engine that has to serve it; None leaves the choice to the runtime."""
    memory_percent: int | None = None
    """The share of a GPU's memory that vLLM may use; None where we do not know the GPU."""
    chosen_because: str = ""
    """Why this size, where nobody named one; "" where somebody did, or the choice is older."""

    @property
    def spread(self) -> bool:
        """Whether one node is too small, so that all of them together run one copy."""
        return self.nodes > 1


@dataclass(frozen=True)
class Knowledge:
    """What the controller knows beyond the cluster."""

    catalog: Catalog
    skus: SkuTable
    byo: bool = False
    """Nodes are brought by the user."""
    private_urls: bool = False
    """Training data may come from private addresses."""


def resolve(workspace: Workspace, knowledge: Knowledge, today: date) -> Target | Problem:
    """The target of a Workspace, or why it has none."""
    inference = workspace.inference
    unusable = selector_problem(workspace)
    if unusable is not None:
        return unusable
    if inference is None:
        return _tuning(workspace, knowledge, today)
    unusable = _parts_problem(workspace)
    if unusable is not None:
        return unusable
    if inference.preset is None:
        return _template(workspace, knowledge, today)
    return _preset(workspace, inference.preset, knowledge, today)


def _preset(
    workspace: Workspace, asked: PresetSpec, knowledge: Knowledge, today: date
) -> Target | Problem:
    preset = knowledge.catalog.find(asked.name)
    if preset is None:
        return Problem(reasons.PRESET_UNKNOWN, unknown_preset(asked.name, knowledge.catalog))
    closed = access_problem(asked, preset)
    if closed is not None:
        return closed
    refused = engine_problem(workspace, preset)
    if refused is not None:
        return Problem(reasons.ENGINE_UNUSABLE, refused)
    target = _sized(workspace, preset, knowledge, today)
    if isinstance(target, Target) and target.spread and len(workspace.metadata.name) > LONGEST_NAME:
        return Problem(reasons.NAME_TOO_LONG, LONG_NAME)
    return target


def _tuning(workspace: Workspace, knowledge: Knowledge, today: date) -> Target | Problem:
    tuning = workspace.tuning
    if tuning is None or tuning.preset is None:
        return Problem(reasons.PRESET_UNKNOWN, "tuning.preset is missing: name the model to tune")
    if method_of(tuning) is None:
        given = f"tuning.method is {tuning.method!r}; allowed: {', '.join(METHODS)}"
        return Problem(reasons.METHOD_UNKNOWN, given)
    preset = _tunable(tuning.preset, knowledge.catalog)
    target = preset if isinstance(preset, Problem) else _sized(workspace, preset, knowledge, today)
    if isinstance(preset, Problem) or isinstance(target, Problem):
        return target
    assert preset.tuning is not None
    # The run uses every GPU of its one node.
    disk, gpus = preset.tuning.disk, target.gpus
    return replace(target, disk=disk, pod_gpus=gpus, nodes=1, engine=None)


def _tunable(asked: PresetSpec, catalog: Catalog) -> Preset | Problem:
    """The preset to tune, or why it cannot be."""
    field = "tuning.preset"
    preset = catalog.find(asked.name)
    if preset is None:
        return Problem(reasons.PRESET_UNKNOWN, unknown_preset(asked.name, catalog, field))
    if preset.tuning is None:
        tunable = ", ".join(each.name for each in catalog.presets if each.tuning is not None)
        return Problem(
            reasons.PRESET_NOT_TUNABLE,
            f"{field}.name {preset.name!r} cannot be fine-tuned. Presets that can: {tunable}",
        )
    return access_problem(asked, preset, field) or preset


def _parts_problem(workspace: Workspace) -> Problem | None:
    """What is wrong with the parts beside preset and template."""
    assert workspace.inference is not None
    inference = workspace.inference
    unusable = adapters_problem(workspace)
    if unusable is not None:
        return Problem(reasons.ADAPTER_UNUSABLE, unusable)
    if inference.config is not None and inference.preset is None:
        return Problem(reasons.CONFIG_NOT_READY, CONFIG_NEEDS_PRESET)
    version = workspace.metadata.annotations.get(labels.UPGRADE_TO_VERSION)
    if version is not None and TAG.fullmatch(version) is None:
        return Problem(
            reasons.VERSION_UNUSABLE,
            f"annotation {labels.UPGRADE_TO_VERSION} {version!r} is no image tag: name a version of "
            "the runtime, such as 0.2.0",
        )
    return None


def _template(workspace: Workspace, knowledge: Knowledge, today: date) -> Target | Problem:
    assert workspace.inference is not None
    problem = template_problem(workspace.inference.template or {})
    if problem is not None:
        return Problem(reasons.TEMPLATE_REJECTED, problem)
    return _sized(workspace, None, knowledge, today)


TAG: Final = re.compile(r"[A-Za-z0-9_][-A-Za-z0-9_.]{0,127}")
LONGEST_NAME: Final = 52
LONG_NAME: Final = (
    f"metadata.name is longer than {LONGEST_NAME} characters, which is too long for a model that "
    "is spread over several nodes: its pods carry the name with more behind it"
)
CONFIG_NEEDS_PRESET = (
    "inference.config is for presets: the server of inference.template has to read its settings "
    "itself, from a volume of the template"
)
PRIVATE_NEEDS_IMAGE = (
    "presetOptions.image is empty: a private preset needs the image that holds the runtime and the "
    "weights"
)


def access_problem(
    asked: PresetSpec, preset: Preset, field: str = "inference.preset"
) -> Problem | None:
    """What is missing to get at the model's weights; None when nothing is."""
    if asked.access_mode == "private":
        missing = not asked.preset_options.image
        needs = f"{field}.{PRIVATE_NEEDS_IMAGE}"
        return Problem(reasons.IMAGE_MISSING, needs) if missing else None
    if preset.access == "private":
        return Problem(
            reasons.IMAGE_MISSING,
            f"{field}.accessMode is 'public', and {preset.name} may not be downloaded by "
            "everybody: say private, and name an image that holds the runtime and the weights in "
            "presetOptions.image",
        )
    if preset.access == "gated" and not asked.preset_options.model_access_secret:
        return Problem(
            reasons.ACCESS_MISSING,
            f"{field}.presetOptions.modelAccessSecret is empty, and the hub gives out "
            f"{preset.model} only to those who accepted its licence: name a Secret with the key "
            "HF_TOKEN, a token of such an account",
        )
    return None


def engine_problem(workspace: Workspace, preset: Preset) -> str | None:
    """Why the engine that is asked for cannot serve the preset, on any machine."""
    wish = wished_engine(workspace)
    if wish is None or wish in preset.engines:
        return None
    return (
        f"metadata.annotations[{labels.RUNTIME}] is {wish!r}, and {preset.name} is served by "
        f"{' or '.join(preset.engines)} only: leave the annotation out, or take another preset"
    )


def unknown_preset(name: str, catalog: Catalog, field: str = "inference.preset") -> str:
    """The sentence about a preset that is not in the catalogue."""
    nearest = catalog.nearest(name)
    meant = catalog.find(nearest) if nearest else None
    sentence = f"{field}.name {name!r} is not a known preset. "
    if meant is None:
        families = ", ".join(dict.fromkeys(preset.family for preset in catalog.presets))
        return f"{sentence}Known families: {families}; docs/presets.md lists all presets"
    family = ", ".join(each.name for each in catalog.presets if each.family == meant.family)
    return f"{sentence}Did you mean {nearest}? Known of the family {meant.family}: {family}"


def unknown_instance_type(name: str, skus: SkuTable) -> str:
    """The sentence about a machine size that is not in the table."""
    nearest = skus.nearest(name)
    hint = f" Did you mean {nearest}?" if nearest else ""
    if skus.open_prefixes:
        allowed = f"sizes that begin with {' or '.join(skus.open_prefixes)}"
    else:
        allowed = ", ".join(sku.name for sku in skus.skus if sku.nvidia)
    return (
        f"resource.instanceType {name!r} is not a GPU size of {skus.cloud}.{hint} "
        f"Allowed: {allowed}"
    )


def selector_problem(workspace: Workspace) -> Problem | None:
    """Why the label selector cannot choose nodes; None when it can."""
    try:
        chosen = selector_labels(workspace.resource.label_selector)
    except ValueError as error:
        return Problem(reasons.SELECTOR_UNUSABLE, f"resource.labelSelector: {error}")
    if not chosen:
        return Problem(
            reasons.SELECTOR_UNUSABLE,
            "resource.labelSelector is empty, and would take any node. Give matchLabels with at "
            "least one label of your own, such as apps: my-model",
        )
    return None


def _sized(
    workspace: Workspace, preset: Preset | None, knowledge: Knowledge, today: date
) -> Target | Problem:
    """Settles the machine size: the one asked for, the one chosen before, or the cheapest."""
    asked = workspace.resource.instance_type or workspace.status.instance_type or ""
    disk = preset.disk if preset is not None else "0"
    fallback = preset.gpus if preset is not None else 1
    sku = knowledge.skus.find(asked) if asked else None
    if sku is not None:
        return _on(workspace, preset, sku, byo=knowledge.byo)
    known = knowledge.skus.find_unmeasured(asked)
    if knowledge.byo or known is not None or (asked and knowledge.skus.may_exist(asked)):
        name, engine = known.name if known else asked, _only_engine(preset)
        return Target(preset, name, fallback, disk, fallback, engine=engine)
    if asked:
        return Problem(reasons.INSTANCE_TYPE_UNKNOWN, unknown_instance_type(asked, knowledge.skus))
    if preset is None:
        return Problem(
            reasons.INSTANCE_TYPE_UNKNOWN,
            "resource.instanceType is empty, and a template does not say what it needs: name one",
        )
    return _chosen(workspace, preset, knowledge.skus, today)


def _on(workspace: Workspace, preset: Preset | None, sku: Sku, *, byo: bool) -> Target:
    """The target on a known size.

    Where the model does not fit, somebody has waived the check: it gets all that there is.
    """
    if preset is None:
        return Target(None, sku.name, 1 if byo else sku.gpus, "0")
    if workspace.tuning is not None:
        return Target(preset, sku.name, 1 if byo else sku.gpus, preset.disk)
    wish = wished_engine(workspace)
    how = fit(preset, sku, nodes=workspace.resource.count, engine=wish)
    if not isinstance(how, Fit):
        nodes = workspace.resource.count if preset.distributed and how.need else 1
        engine: Engine | None = "vllm" if nodes > 1 else wish or _only_engine(preset)
        target = Target(preset, sku.name, sku.gpus, preset.disk, sku.gpus, nodes, engine)
    else:
        # A node of the user's own may be shared, so only what the model needs is asked of it.
        offered = how.gpus if byo else sku.gpus
        engine = _engine(how, preset, wish)
        target = Target(preset, sku.name, offered, preset.disk, how.gpus, how.nodes, engine)
    if target.engine == "transformers":
        return target
    return replace(target, memory_percent=utilisation_percent("vllm", sku.gpu))


def _engine(how: Fit, preset: Preset, wish: Engine | None) -> Engine | None:
    """What the runtime has to be told: nothing where it may choose, and vLLM is what fits.

    It chooses vLLM where its image has it, else transformers: where only one will do, it is told.
    """
    chooses_itself = how.engine == "vllm" and how.nodes == 1
    return (wish or _only_engine(preset)) if chooses_itself else how.engine


def _only_engine(preset: Preset | None) -> Engine | None:
    """VLLM where nothing else serves the preset; else None."""
    return "vllm" if preset is not None and preset.engines == ("vllm",) else None


def trial(workspace: Workspace, preset: Preset) -> Trial:
    """Tries machine sizes for what the Workspace does with the preset."""
    tuning = workspace.tuning
    if tuning is None:
        count, wish = workspace.resource.count, wished_engine(workspace)
        return serving(preset, nodes=count, engine=wish)
    return tuned(preset, method_of(tuning) or "lora")


def method_of(tuning: TuningSpec) -> Method | None:
    """The method that is asked for, however it is spelled; None for an unknown one."""
    return next((each for each in METHODS if each == (tuning.method or "").lower()), None)


def _chosen(workspace: Workspace, preset: Preset, skus: SkuTable, today: date) -> Target | Problem:
    count = workspace.resource.count
    choice = choose(preset, skus, today, trial(workspace, preset), nodes=count)
    if choice is None:
        return Problem(
            reasons.NOTHING_FITS,
            f"no priced size of {skus.cloud} fits {preset.name} on {count} "
            f"{'node' if count == 1 else 'nodes'}: name resource.instanceType yourself",
        )
    target = _on(workspace, preset, choice.sku, byo=False)
    return replace(target, chosen_because=choice.reason)
