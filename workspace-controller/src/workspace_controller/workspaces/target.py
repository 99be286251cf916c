"""Resolves what a Workspace asks for into what it needs: model, machine size, GPUs, disk.

Invariant: the same spec, catalogue and table give the same target; what cannot be served is a
`Problem` with a sentence, never an exception.
"""

import re
from dataclasses import dataclass
from datetime import date
from typing import Final

from gpuapis import labels
from gpuapis.workspace import PresetSpec, Workspace
from workspace_controller.manifests.adapters import adapters_problem
from workspace_controller.manifests.ownership import selector_labels
from workspace_controller.manifests.template_pod import template_problem
from workspace_controller.presets.catalog import Catalog, Preset
from workspace_controller.skus.fit import cheapest, misfits
from workspace_controller.skus.table import SkuTable
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
    spread: bool = False
    """One node is too small, so that all of them together run one copy of the model."""


@dataclass(frozen=True)
class Knowledge:
    """What the controller knows beyond the cluster."""

    catalog: Catalog
    skus: SkuTable
    byo: bool = False
    """Nodes are brought by the user."""


def resolve(workspace: Workspace, knowledge: Knowledge, today: date) -> Target | Problem:
    """The target of a Workspace, or why it has none."""
    inference = workspace.inference
    if inference is None:
        return Problem(reasons.NOT_SERVED, TUNING_NOT_SERVED)
    unusable = selector_problem(workspace) or _parts_problem(workspace)
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
    if asked.access_mode == "private" and not asked.preset_options.image:
        return Problem(reasons.IMAGE_MISSING, PRIVATE_NEEDS_IMAGE)
    target = _sized(workspace, preset, knowledge, today)
    if isinstance(target, Target) and target.spread and len(workspace.metadata.name) > LONGEST_NAME:
        return Problem(reasons.NAME_TOO_LONG, LONG_NAME)
    return target


def _parts_problem(workspace: Workspace) -> Problem | None:
    """What is wrong with the parts beside preset and template."""
    assert workspace.inference is not None
    inference = workspace.inference
    unusable = adapters_problem(inference)
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
TUNING_NOT_SERVED = "tuning is not served by this version: only inference is"
PRIVATE_NEEDS_IMAGE = (
    "inference.preset.presetOptions.image is empty: a private preset needs the image that holds "
    "the runtime and the weights"
)


def unknown_preset(name: str, catalog: Catalog) -> str:
    """The sentence about a preset that is not in the catalogue."""
    nearest = catalog.nearest(name)
    hint = f" Did you mean {nearest}?" if nearest else ""
    return (
        f"inference.preset.name {name!r} is not a known preset.{hint} "
        f"Known: {', '.join(catalog.names)}"
    )


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
        spread = workspace.resource.count > 1 and preset is not None and bool(misfits(preset, sku))
        gpus = fallback if knowledge.byo and not spread else sku.gpus
        return Target(preset, sku.name, gpus, disk, spread)
    if knowledge.byo or (asked and knowledge.skus.may_exist(asked)):
        return Target(preset, asked, fallback, disk)
    if asked:
        return Problem(reasons.INSTANCE_TYPE_UNKNOWN, unknown_instance_type(asked, knowledge.skus))
    if preset is None:
        return Problem(
            reasons.INSTANCE_TYPE_UNKNOWN,
            "resource.instanceType is empty, and a template does not say what it needs: name one",
        )
    chosen = cheapest(preset, knowledge.skus, today)
    if chosen is None:
        return Problem(
            reasons.NOTHING_FITS,
            f"no priced size of {knowledge.skus.cloud} fits {preset.name}: name "
            "resource.instanceType yourself",
        )
    return Target(preset, chosen.name, chosen.gpus, disk)
