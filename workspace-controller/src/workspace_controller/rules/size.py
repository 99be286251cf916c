"""The machines a Workspace asks for: `resource.instanceType` and `resource.count`.

Invariant: a size is refused when it cannot serve, with the cheapest that can; a size we do not know
but the cloud may have is let through with a word.
"""

from collections.abc import Iterator
from datetime import date
from typing import Final

from gpuapis import labels
from gpuapis.workspace import Workspace
from workspace_controller.manifests.model_pod import wished_engine
from workspace_controller.presets.catalog import RUNTIME_CAPABILITY, Preset
from workspace_controller.quantities import in_gib
from workspace_controller.reading import shown
from workspace_controller.rules.finding import Finding, Rule
from workspace_controller.rules.objects import name_findings
from workspace_controller.skus.choice import choose, ranked, successor
from workspace_controller.skus.fit import Fit, Misfit, fit
from workspace_controller.skus.table import Sku, SkuTable, Unmeasured
from workspace_controller.skus.tuning import TuningFit, fit_tuning
from workspace_controller.workspaces.target import (
    Knowledge,
    engine_problem,
    method_of,
    trial,
    unknown_instance_type,
)

KNOWN = Rule("size-known", "The instance type is a GPU size of the cloud, or may be a new one.")
NEEDED = Rule("size-needed", "A template says on which instance type it runs.")
AVAILABLE = Rule("size-available", "Without an instance type, a priced size fits the preset.")
NVIDIA = Rule("size-nvidia", "The instance type has NVIDIA GPUs.")
FITS = Rule(
    "size-fits",
    "The model fits the GPUs of the instance type, unless annotation "
    "kaito.sh/bypass-resource-checks is there.",
)
BYPASSED = Rule(
    "size-bypassed", "A model that does not fit is told of, bypassed or not.", warns=True
)
UNCHECKED = Rule("size-unchecked", "An instance type is in our table.", warns=True)
UNMEASURED = Rule("size-unmeasured", "The GPUs of an instance type are known.", warns=True)
ALIAS = Rule("size-alias", "An instance type has the name that the cloud lists.", warns=True)
RETIRED = Rule("size-retired", "The cloud still makes machines of the size.", warns=True)
EMULATED = Rule("size-emulated", "The GPU computes in the model's number format.", warns=True)
OLD_GPU = Rule("size-old-gpu", "The runtime supports the GPU.", warns=True)
ARM = Rule("size-arm", "The machine runs images for x86-64.", warns=True)
TIGHT = Rule("size-tight", "A fine-tuning leaves a tenth of the GPU's memory free.", warns=True)
ONE = Rule("tuning-count", "A fine-tuning runs on one machine.", server=True)
OWN = Rule(
    "size-own",
    "Where the size of your own nodes is not said, the model fits one GPU of some machine.",
    warns=True,
)
MANY = Rule("count-large", "More than 100 machines are meant.", warns=True)

FIELD: Final = "resource.instanceType"
COUNT: Final = "resource.count"
BETTER: Final = 3
"""How many sizes that fit are named."""
LARGE_COUNT: Final = 100
POOL_LIMIT: Final = 1000
"""Nodes that an AKS pool takes."""


def size_findings(
    workspace: Workspace, preset: Preset | None, knowledge: Knowledge, today: date
) -> Iterator[Finding]:
    """What is wrong with the machines.

    Args:
        workspace: a Workspace with one kind of work.
        preset: the model; None for a template or one that is not known.
        knowledge: the sizes there are.
        today: for sizes that are out of service.
    """
    resource = workspace.resource
    for number, node in enumerate(resource.preferred_nodes):
        yield from name_findings(f"resource.preferredNodes[{number}]", node)
    if workspace.tuning is not None and resource.count != 1:
        yield ONE.broken(
            COUNT,
            f"is {resource.count}, and a fine-tuning runs on one machine: leave it at 1, and take a "
            "larger resource.instanceType where one is too small",
            resource.count,
        )
    if workspace.tuning is not None and preset is not None and preset.tuning is None:
        preset = None  # its own rule says that it cannot be tuned: no size would do
    if preset is not None and engine_problem(workspace, preset) is not None:
        preset = None  # nor would one for an engine that cannot serve it
    if not resource.instance_type:
        yield from _unsized(workspace, preset, knowledge, today)
        return
    asked, skus = resource.instance_type, knowledge.skus
    sku = skus.find(asked) or skus.find_unmeasured(asked)
    if sku is not None and not sku.nvidia:
        hint = _better(workspace, preset, knowledge, today)
        said = f"{shown(asked)} has {sku.vendor} GPUs, and model servers need NVIDIA{hint}"
        yield NVIDIA.broken(FIELD, said, asked)
    elif isinstance(sku, Sku):
        yield from _fit_findings(workspace, sku, preset, knowledge, today)
    elif sku is None and not knowledge.byo and not skus.may_exist(asked):
        said = unknown_instance_type(asked, skus)
        yield KNOWN.broken(FIELD, said.removeprefix(f"{FIELD} "), asked)


def size_warnings(
    workspace: Workspace, preset: Preset | None, knowledge: Knowledge, today: date
) -> Iterator[Finding]:
    """What is allowed, but is likely to disappoint."""
    asked, skus = workspace.resource.instance_type or "", knowledge.skus
    sku, unmeasured = skus.find(asked), skus.find_unmeasured(asked)
    if sku is not None:
        yield from _about_name(sku, skus, today)
        yield from _about_gpus(workspace, sku, preset)
        yield from _about_tuning(workspace, preset, sku)
        if preset is not None and _bypassed(workspace):
            for reason in _against(workspace, preset, sku):
                yield BYPASSED.broken(FIELD, f"{shown(asked)} does not fit: {reason}")
    elif unmeasured is not None:
        yield from _about_name(unmeasured, skus, today)
        yield UNMEASURED.broken(
            FIELD,
            f"{unmeasured.name} is known, but no source says how many GPUs it has or how large they "
            "are, so whether the model fits is not checked",
        )
    elif asked and skus.may_exist(asked):
        nearest = skus.nearest(asked)
        hint = f"; did you mean {nearest}?" if nearest else ""
        yield UNCHECKED.broken(
            FIELD, f"{shown(asked)} is not in our table, so its GPUs are not checked{hint}"
        )
    if not asked and knowledge.byo and preset is not None and workspace.inference is not None:
        yield from _about_own_nodes(preset, skus)
    if workspace.resource.count > LARGE_COUNT and not knowledge.byo:
        yield MANY.broken(COUNT, _many(workspace.resource.count, sku))


def _unsized(
    workspace: Workspace, preset: Preset | None, knowledge: Knowledge, today: date
) -> Iterator[Finding]:
    if knowledge.byo:
        return
    if workspace.inference is not None and workspace.inference.template is not None:
        yield NEEDED.broken(
            FIELD, "is empty, and a template does not say what it needs: name an instance type"
        )
        return
    if preset is None:
        return
    count, runs = workspace.resource.count, trial(workspace, preset)
    if choose(preset, knowledge.skus, today, runs, nodes=count) is None:
        yield AVAILABLE.broken(
            FIELD,
            f"is empty, and no priced size of {knowledge.skus.cloud} fits {preset.name} on {count} "
            f"{'node' if count == 1 else 'nodes'}: name one",
            preset.name,
        )


def _fit_findings(
    workspace: Workspace, sku: Sku, preset: Preset | None, knowledge: Knowledge, today: date
) -> Iterator[Finding]:
    if preset is None or _bypassed(workspace):
        return
    against = _against(workspace, preset, sku)
    if against:
        hint = _better(workspace, preset, knowledge, today)
        yield FITS.broken(
            FIELD,
            f"{shown(workspace.resource.instance_type)} does not fit: {'; '.join(against)}{hint}",
            f"{sku.name} {preset.name}",
        )


def _against(workspace: Workspace, preset: Preset, sku: Sku) -> tuple[str, ...]:
    """Why the model does not run on so many such machines, and what would mend it."""
    if workspace.tuning is not None:
        tuned = fit_tuning(preset, method_of(workspace.tuning) or "lora", sku)
        return tuned.reasons if isinstance(tuned, Misfit) else ()
    count = workspace.resource.count
    how = fit(preset, sku, nodes=count, engine=wished_engine(workspace))
    if not isinstance(how, Misfit):
        return ()
    remedies = []
    if how.nodes is not None and how.nodes > count:
        remedies.append(f"it fits when spread over {how.nodes} of them: set resource.count")
    if how.with_transformers:
        remedies.append(f"it fits with the annotation {labels.RUNTIME}: transformers")
    return (*how.reasons, *remedies)


def _better(workspace: Workspace, preset: Preset | None, knowledge: Knowledge, today: date) -> str:
    if preset is None:
        return ""
    fitting = ranked(preset, knowledge.skus, today, trial(workspace, preset))
    names = ", ".join(sku.name for sku in fitting[:BETTER])
    return f". Sizes that fit: {names}" if names else ""


def _about_tuning(workspace: Workspace, preset: Preset | None, sku: Sku) -> Iterator[Finding]:
    if workspace.tuning is None or preset is None or preset.tuning is None:
        return
    how = fit_tuning(preset, method_of(workspace.tuning) or "lora", sku)
    if isinstance(how, TuningFit) and how.tight:
        yield TIGHT.broken(
            FIELD,
            f"{sku.name} has {in_gib(sku.gpu_memory)} on each GPU, and tuning {preset.name} takes "
            f"{in_gib(how.need)} of them: it may run out of memory. A smaller max_length in "
            "tuning.config, or the method qlora, takes less",
        )


def _about_own_nodes(preset: Preset, skus: SkuTable) -> Iterator[Finding]:
    how = [fit(preset, sku) for sku in skus.skus if sku.runs_images]
    if not any(isinstance(each, Fit) and each.gpus == preset.gpus for each in how):
        yield OWN.broken(
            FIELD,
            f"is empty, so each pod gets {preset.gpus} GPU, and {preset.name} takes "
            f"{in_gib(preset.weights)}, more than any has: name the size of your nodes, and pods "
            "get as many of its GPUs as the model needs",
        )


def _about_name(sku: Unmeasured, skus: SkuTable, today: date) -> Iterator[Finding]:
    if sku.alias_of is not None:
        yield ALIAS.broken(
            FIELD,
            f"{sku.name} is not a name that the cloud lists: say {sku.alias_of}, which is the same "
            "machine",
        )
    if sku.retired is None:
        return
    verb = "was" if sku.retired <= today else "will be"
    follows = successor(sku, skus, today) if isinstance(sku, Sku) else None
    yield RETIRED.broken(
        FIELD,
        f"{sku.name} {verb} retired on {sku.retired}: the cloud may refuse to make new ones"
        + (f"; {follows} is the cheapest in service that offers as much" if follows else ""),
    )


def _about_gpus(workspace: Workspace, sku: Sku, preset: Preset | None) -> Iterator[Finding]:
    if preset is None or not sku.nvidia:
        return
    if (sku.capability or 0) < RUNTIME_CAPABILITY:
        yield OLD_GPU.broken(
            FIELD,
            f"{sku.name} has a {sku.gpu} of compute capability {sku.capability}, and the runtime's "
            f"CUDA 13 supports {RUNTIME_CAPABILITY} and newer: the model will not start",
        )
    elif preset.dtype == "bfloat16" and not sku.bfloat16:
        yield EMULATED.broken(
            FIELD,
            f"{sku.name} has a {sku.gpu}, without native bfloat16: {preset.name} runs slowly on it",
        )
    elif workspace.tuning is not None and not sku.bfloat16:
        yield EMULATED.broken(
            FIELD,
            f"{sku.name} has a {sku.gpu}, without native bfloat16, in which a fine-tuning computes "
            "unless tuning.config says otherwise: it is slow",
        )
    if not sku.runs_images:
        yield ARM.broken(FIELD, f"{sku.name} has an Arm CPU, and the runtime image is for x86-64")


def _many(count: int, sku: Sku | None) -> str:
    said = f"is {count}: that many machines are made and paid for"
    if sku is not None and sku.usd_per_hour is not None:
        said += f", at about {count * sku.usd_per_hour:,.0f} US dollars an hour"
    if count >= POOL_LIMIT:
        said += f"; AKS takes at most {POOL_LIMIT} nodes in a pool"
    return said


def _bypassed(workspace: Workspace) -> bool:
    return labels.BYPASS_RESOURCE_CHECKS in workspace.metadata.annotations
