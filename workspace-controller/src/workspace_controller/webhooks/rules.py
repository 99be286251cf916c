"""The rules for a Workspace that is created: what it must say, and what it had better not.

Invariant: each sentence names the field, its value, what is allowed and, where one was probably
meant, the nearest match. The rules ask nothing of the cluster or the network, so they cannot be
slow or down.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Final

from gpuapis import labels
from gpuapis.workspace import InferenceSpec, Workspace
from workspace_controller.manifests.model_pod import ENGINES, wished_engine
from workspace_controller.presets.catalog import RUNTIME_CAPABILITY, Preset
from workspace_controller.skus.choice import successor, suggestions
from workspace_controller.skus.fit import Misfit, fit
from workspace_controller.skus.table import Sku, SkuTable, Unmeasured
from workspace_controller.workspaces.facts import Problem
from workspace_controller.workspaces.target import (
    Knowledge,
    access_problem,
    resolve,
    selector_problem,
    unknown_preset,
)

MOST_ADAPTERS: Final = 10
SERVICE_NAME: Final = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
"""RFC 1035, for a Service may begin with a digit only from Kubernetes 1.36 on."""
LABEL_KEY: Final = re.compile(
    r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
)
LABEL_VALUE: Final = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
OTHERS_DOMAINS: Final = (
    "kubernetes.io",
    "k8s.io",
    "karpenter.sh",
    "kubernetes.azure.com",
    "kaito.sh",
)
OTHERS_KEYS: Final = ("agentpool", labels.ACCELERATOR)
IMAGE_FAMILIES: Final = ("azurelinux", "ubuntu")


def problems(workspace: Workspace, knowledge: Knowledge, today: date) -> list[str]:
    """Everything that forbids the Workspace, a sentence each."""
    found = [*_metadata(workspace), *_selector(workspace, byo=knowledge.byo)]
    inference = workspace.inference
    if inference is not None and workspace.tuning is not None:
        found.append("inference and tuning are both given: use one Workspace for each")
    elif workspace.tuning is not None:
        found += _machine(workspace, knowledge, today)
    elif inference is None:
        found.append("inference is missing: say what to serve, by inference.preset or .template")
    else:
        found += _inference(inference, knowledge)
        found += _machine(workspace, knowledge, today)
    return list(dict.fromkeys(found))


def warnings(workspace: Workspace, knowledge: Knowledge, today: date) -> list[str]:
    """What is allowed, but is likely to disappoint."""
    found = list(_unheeded(workspace))
    name = workspace.resource.instance_type or ""
    preset = _preset(workspace, knowledge)
    sku = knowledge.skus.find(name)
    unmeasured = knowledge.skus.find_unmeasured(name)
    if sku is not None:
        found += _about_retirement(sku, knowledge.skus, today)
        found += _about_gpus(sku, preset)
        if preset is not None and _checks_bypassed(workspace):
            found += _misfit(workspace, preset, sku)
    elif unmeasured is not None:
        found.append(
            f"resource.instanceType {unmeasured.name} is known, but no source says how many GPUs "
            f"it has or how large they are, so whether the model fits is not checked"
        )
    elif name:
        nearest = knowledge.skus.nearest(name)
        found.append(
            f"resource.instanceType {name!r} is not in our table, so its GPUs are not checked"
            + (f"; did you mean {nearest}?" if nearest else "")
        )
    return found


def _metadata(workspace: Workspace) -> Iterable[str]:
    name = workspace.metadata.name
    if not SERVICE_NAME.fullmatch(name):
        yield (
            f"metadata.name {name!r} names a Service and labels nodes, so it must be at most 63 "
            "characters of a-z, 0-9 and -, beginning with a letter and ending with a letter or digit"
        )
    family = workspace.metadata.annotations.get(labels.NODE_IMAGE_FAMILY)
    if family is not None and family.strip().lower() not in IMAGE_FAMILIES:
        yield (
            f"annotation {labels.NODE_IMAGE_FAMILY} is {family!r}; allowed: "
            f"{', '.join(IMAGE_FAMILIES)}"
        )


def _selector(workspace: Workspace, *, byo: bool) -> Iterable[str]:
    selector = workspace.resource.label_selector
    keys = [*selector.match_labels, *(each.key for each in selector.match_expressions)]
    if reserved := sorted(filter(_ours, keys)):
        yield (
            f"resource.labelSelector uses {', '.join(reserved)}, which the controller sets itself: "
            "use labels of your own, such as apps: my-model"
        )
    others = sorted(key for key in keys if _others(key) and not _ours(key))
    if others and not byo:
        yield (
            f"resource.labelSelector uses {', '.join(others)}, which a new node cannot be given: "
            f"labels of {', '.join(OTHERS_DOMAINS)} are set by the system. Use labels of your own, "
            "such as apps: my-model; to use existing nodes first, name them in "
            "resource.preferredNodes"
        )
    yield from _malformed(selector.match_labels, keys)
    unusable = selector_problem(workspace)
    if unusable is not None:
        yield unusable.message


def _ours(key: str) -> bool:
    return (
        key in labels.RESERVED_SELECTOR_KEYS
        or key in (labels.SLOT, labels.RESERVED_FOR)
        or key.startswith(labels.RESERVED_SELECTOR_PREFIX)
    )


def _others(key: str) -> bool:
    domain, slash, _ = key.partition("/")
    if not slash:
        return key in OTHERS_KEYS
    return any(domain == each or domain.endswith(f".{each}") for each in OTHERS_DOMAINS)


def _malformed(match_labels: Mapping[str, str], keys: Iterable[str]) -> Iterable[str]:
    for key in keys:
        if LABEL_KEY.fullmatch(key) is None:
            yield (
                f"resource.labelSelector key {key!r} is no label key: use letters, digits, '-', "
                "'_' and '.', such as apps or example.com/apps"
            )
    for key, value in match_labels.items():
        if LABEL_VALUE.fullmatch(value) is None:
            yield (
                f"resource.labelSelector value {value!r} of {key!r} is no label value: use at "
                "most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or "
                "a digit"
            )


def _inference(inference: InferenceSpec, knowledge: Knowledge) -> Iterable[str]:
    if (inference.preset is None) == (inference.template is None):
        count = "neither" if inference.preset is None else "both"
        yield f"inference takes exactly one of preset and template; {count} of them is given"
    preset = inference.preset
    if preset is not None:
        known = knowledge.catalog.find(preset.name)
        if known is None:
            yield unknown_preset(preset.name, knowledge.catalog)
        elif (closed := access_problem(preset, known)) is not None:
            yield closed.message
    if len(inference.adapters) > MOST_ADAPTERS:
        yield (
            f"inference.adapters has {len(inference.adapters)} entries; at most {MOST_ADAPTERS} "
            "are allowed"
        )


def _machine(workspace: Workspace, knowledge: Knowledge, today: date) -> Iterable[str]:
    """What the controller would refuse about the size, and what the model would not fit."""
    target = resolve(workspace, knowledge, today)
    if isinstance(target, Problem):
        yield target.message
        return
    preset = target.preset
    sku = knowledge.skus.find(workspace.resource.instance_type or "")
    unchecked = workspace.inference is None or _checks_bypassed(workspace)
    if preset is None or sku is None or unchecked:
        return
    reasons_against = _misfit(workspace, preset, sku)
    if reasons_against:
        count, wish = workspace.resource.count, wished_engine(workspace)
        better = suggestions(preset, knowledge.skus, today, nodes=count, engine=wish)
        hint = f". Sizes that fit: {', '.join(better)}" if better else ""
        yield (
            f"resource.instanceType {workspace.resource.instance_type!r} does not fit: "
            f"{'; '.join(reasons_against)}{hint}"
        )


def _misfit(workspace: Workspace, preset: Preset, sku: Sku) -> tuple[str, ...]:
    """Why the model does not run on so many such machines, and what would mend it."""
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


def _about_retirement(sku: Sku | Unmeasured, skus: SkuTable, today: date) -> Iterable[str]:
    if sku.alias_of is not None:
        yield (
            f"resource.instanceType {sku.name} is not a name that the cloud lists: say "
            f"{sku.alias_of}, which is the same machine"
        )
    if sku.retired is None:
        return
    verb = "was" if sku.retired <= today else "will be"
    follows = successor(sku, skus, today) if isinstance(sku, Sku) else None
    yield (
        f"resource.instanceType {sku.name} {verb} retired on {sku.retired}: the cloud may "
        "refuse to make new ones"
        + (f"; {follows} is the cheapest in service that offers as much" if follows else "")
    )


def _about_gpus(sku: Sku, preset: Preset | None) -> Iterable[str]:
    if preset is None or not sku.nvidia:
        return
    if (sku.capability or 0) < RUNTIME_CAPABILITY:
        yield (
            f"the {sku.gpu} of {sku.name} has compute capability {sku.capability}, and the "
            f"runtime's CUDA 13 supports {RUNTIME_CAPABILITY} and newer: the model will not start"
        )
    elif preset.dtype == "bfloat16" and not sku.bfloat16:
        yield f"the {sku.gpu} of {sku.name} has no native bfloat16, so {preset.name} runs slowly"
    if not sku.runs_images:
        yield f"{sku.name} has an Arm CPU, and the runtime image is built for x86-64"


def _unheeded(workspace: Workspace) -> Iterable[str]:
    annotations = workspace.metadata.annotations
    balancer = annotations.get(labels.ENABLE_LOAD_BALANCER)
    if balancer not in (None, "True", "False"):
        yield f"annotation {labels.ENABLE_LOAD_BALANCER} is {balancer!r}; only True has an effect"
    runtime = annotations.get(labels.RUNTIME)
    if runtime is not None and runtime not in ENGINES:
        yield (
            f"annotation {labels.RUNTIME} is {runtime!r} and has no effect; allowed: "
            f"{', '.join(ENGINES)}"
        )
    inference = workspace.inference
    if inference is None or inference.preset is None:
        return
    if inference.preset.access_mode == "public" and inference.preset.preset_options.image:
        yield (
            "inference.preset.presetOptions.image is used although accessMode is public: say "
            "private if the weights are in it"
        )


def _preset(workspace: Workspace, knowledge: Knowledge) -> Preset | None:
    if workspace.inference is None or workspace.inference.preset is None:
        return None
    return knowledge.catalog.find(workspace.inference.preset.name)


def _checks_bypassed(workspace: Workspace) -> bool:
    return labels.BYPASS_RESOURCE_CHECKS in workspace.metadata.annotations
