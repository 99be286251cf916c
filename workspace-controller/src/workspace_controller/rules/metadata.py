"""The name of a Workspace, and its annotations.

Invariant: an annotation that would have no effect is told, never passed over; only what would have
another effect than was meant is refused.
"""

import re
from collections.abc import Iterator
from typing import Final

from gpuapis import labels
from gpuapis.workspace import Workspace
from workspace_controller.manifests.model_pod import ENGINES
from workspace_controller.nearest import nearest
from workspace_controller.reading import shown
from workspace_controller.rules.finding import Finding, Rule, meant
from workspace_controller.workspaces.target import TAG

NAME = Rule(
    "name",
    "The name is at most 63 characters of a-z, 0-9 and -, begins with a letter and ends with a "
    "letter or digit.",
    server=True,
)
RUNTIME = Rule("runtime", "Annotation kaito.sh/runtime is transformers or vllm.")
IMAGE_FAMILY = Rule(
    "node-image-family", "Annotation kaito.sh/node-image-family is azurelinux or ubuntu."
)
KEEP_NODE = Rule("keep-node", "Annotation kaito.sh/keep-node is true or false.")
UPGRADE = Rule("upgrade-to-version", "Annotation kaito.sh/upgrade-to-version is an image tag.")
BALANCER = Rule("enablelb", "Annotation kaito.sh/enablelb is True or False.", warns=True)
BYPASS = Rule(
    "bypass-resource-checks",
    "Annotation kaito.sh/bypass-resource-checks counts by its presence, whatever its value.",
    warns=True,
)
NO_EFFECT = Rule(
    "annotation-no-effect",
    "Annotations of later releases that this version does not know have no effect.",
    warns=True,
)
UNKNOWN = Rule(
    "annotation-unknown", "An annotation with the prefix kaito.sh/ is one that exists.", warns=True
)

IMAGE_FAMILIES: Final = ("azurelinux", "ubuntu")
LATER: Final = (
    "kaito.sh/disable-benchmark",
    "kaito.sh/inference-role",
    "kaito.sh/model-mirror-storage-class",
    "kaito.sh/model-streaming",
    "kaito.sh/node-class-name",
    "kaito.sh/performance-mode",
    "kaito.sh/streaming-service-account",
    "kaito.sh/upgrade-start-time",
    "kaito.sh/use-local-weights",
)
OURS: Final = (
    labels.BYPASS_RESOURCE_CHECKS,
    labels.ENABLE_LOAD_BALANCER,
    labels.KEEP_NODE,
    labels.NODE_IMAGE_FAMILY,
    labels.RUNTIME,
    labels.TUNING_RUN,
    labels.UPGRADE_TO_VERSION,
)
PREFIX: Final = "kaito.sh/"


def name_findings(workspace: Workspace) -> Iterator[Finding]:
    """What is wrong with the name."""
    name = workspace.metadata.name
    if re.fullmatch(labels.SERVICE_NAME, name) is None:
        yield NAME.broken(
            "metadata.name",
            f"{shown(name)} names a Service and labels nodes, so it must be at most 63 characters "
            "of a-z, 0-9 and -, beginning with a letter and ending with a letter or digit",
            name,
        )


def annotation_findings(workspace: Workspace) -> Iterator[Finding]:
    """What is wrong with the annotations that are ours to read."""
    annotations = workspace.metadata.annotations
    runtime = annotations.get(labels.RUNTIME)
    if runtime is not None and runtime not in ENGINES:
        yield RUNTIME.broken(
            _field(labels.RUNTIME),
            f"is {shown(runtime)}.{meant(runtime, ENGINES)} Allowed: {', '.join(ENGINES)}",
            runtime,
        )
    family = annotations.get(labels.NODE_IMAGE_FAMILY)
    if family is not None and family.strip().lower() not in IMAGE_FAMILIES:
        yield IMAGE_FAMILY.broken(
            _field(labels.NODE_IMAGE_FAMILY),
            f"is {shown(family)}.{meant(family, IMAGE_FAMILIES)} "
            f"Allowed: {', '.join(IMAGE_FAMILIES)}",
            family,
        )
    keep = annotations.get(labels.KEEP_NODE)
    if keep not in (None, "true", "false"):
        yield KEEP_NODE.broken(
            _field(labels.KEEP_NODE), f"is {shown(keep)}. Allowed: true, false", keep
        )
    version = annotations.get(labels.UPGRADE_TO_VERSION)
    if version is not None and TAG.fullmatch(version) is None:
        yield UPGRADE.broken(
            _field(labels.UPGRADE_TO_VERSION),
            f"is {shown(version)}, which is no image tag: name a version of the runtime, such as "
            "0.2.0",
            version,
        )


def annotation_warnings(workspace: Workspace) -> Iterator[Finding]:
    """Annotations that do not do what they look like."""
    annotations = workspace.metadata.annotations
    balancer = annotations.get(labels.ENABLE_LOAD_BALANCER)
    if balancer not in (None, "True", "False"):
        yield BALANCER.broken(
            _field(labels.ENABLE_LOAD_BALANCER), f"is {shown(balancer)}; only True has an effect"
        )
    if annotations.get(labels.BYPASS_RESOURCE_CHECKS, "true").lower() in ("false", "no", "0"):
        yield BYPASS.broken(
            _field(labels.BYPASS_RESOURCE_CHECKS),
            "bypasses the checks by being there, whatever its value: remove it to have them",
        )
    serves_preset = workspace.inference is not None and workspace.inference.preset is not None
    if labels.RUNTIME in annotations and not serves_preset:
        yield NO_EFFECT.broken(_field(labels.RUNTIME), "has an effect on inference.preset only")
    for key in sorted(annotations):
        if key in LATER:
            yield NO_EFFECT.broken(_field(key), "has no effect in this version")
        elif key.startswith(PREFIX) and key not in OURS:
            hint = nearest(key, OURS)
            yield UNKNOWN.broken(
                _field(key), "is not known" + (f". Did you mean {hint}?" if hint else "")
            )


def _field(key: str) -> str:
    return f"metadata.annotations[{key}]"
