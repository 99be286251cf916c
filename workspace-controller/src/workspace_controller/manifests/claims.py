"""A Machine or NodeClaim for one slot of a Workspace.

Invariant: a claim names exactly one instance type, asks for the GPUs it must show before it counts
as initialized, and is labelled so that any provisioner puts its owner on the node.
"""

from dataclasses import dataclass
from typing import Any, Final

from gpuapis import labels
from gpuapis.machine import Machine
from gpuapis.nodeclaim import KaitoNodeClass, NodeClaim
from gpuapis.workspace import Workspace
from workspace_controller.manifests.ownership import owner_labels, selector_labels

SKU_TAINT: Final = {
    "key": labels.SKU_TAINT,
    "value": labels.SKU_TAINT_VALUE,
    "effect": "NoSchedule",
}
AZURE_SKU_NAME: Final = "karpenter.azure.com/sku-name"


@dataclass(frozen=True)
class ClaimNeed:
    """What one claim is for."""

    name: str
    slot: int
    attempt: int
    instance_type: str
    gpus: int
    disk: str
    """Quantity of disk for weights; "0" for the provider's default."""


@dataclass(frozen=True)
class NodeClass:
    """The class that a NodeClaim refers to, which says whose provisioner is to serve it."""

    group: str
    kind: str
    name: str


def machine(workspace: Workspace, need: ClaimNeed) -> dict[str, Any]:
    """The claim in the dialect of `karpenter.sh/v1alpha5`."""
    requirements = {
        labels.INSTANCE_TYPE: need.instance_type,
        labels.PROVISIONER_NAME: "default",
        labels.MACHINE_TYPE: "gpu",
        labels.ARCH: "amd64",
        labels.OS: "linux",
    }
    return {
        "apiVersion": Machine.RESOURCE.api_version,
        "kind": Machine.RESOURCE.kind,
        "metadata": {
            "name": need.name,
            "labels": _labels(workspace, need, {labels.PROVISIONER_NAME: "default"}),
            "annotations": _annotations(workspace, need),
        },
        "spec": {
            "machineTemplateRef": {"name": need.name},
            "requirements": _requirements(requirements),
            "resources": {"requests": _requests(need, "storage")},
            "taints": [dict(SKU_TAINT)],
        },
    }


def node_claim(
    workspace: Workspace, need: ClaimNeed, node_class: NodeClass, *, azure: bool
) -> dict[str, Any]:
    """The claim in the dialect of `karpenter.sh/v1`."""
    requirements = {
        labels.NODEPOOL: "kaito",
        labels.INSTANCE_TYPE: need.instance_type,
        labels.OS: "linux",
    }
    if azure:
        requirements[AZURE_SKU_NAME] = need.instance_type
    annotations = _annotations(workspace, need) | {labels.DO_NOT_DISRUPT: "true"}
    family = workspace.metadata.annotations.get(labels.NODE_IMAGE_FAMILY)
    if family is not None:
        annotations[labels.NODE_IMAGE_FAMILY] = family
    return {
        "apiVersion": NodeClaim.RESOURCE.api_version,
        "kind": NodeClaim.RESOURCE.kind,
        "metadata": {
            "name": need.name,
            "labels": _labels(workspace, need, {labels.NODEPOOL: "kaito"}),
            "annotations": annotations,
        },
        "spec": {
            # Karpenter's default of 720 h would end a served model every month.
            "expireAfter": "Never",
            "nodeClassRef": {
                "group": node_class.group,
                "kind": node_class.kind,
                "name": node_class.name,
            },
            "requirements": _requirements(requirements),
            "resources": {"requests": _requests(need, _disk_resource(node_class))},
            "taints": [dict(SKU_TAINT)],
        },
    }


def _labels(workspace: Workspace, need: ClaimNeed, dialect: dict[str, str]) -> dict[str, str]:
    chosen = selector_labels(workspace.resource.label_selector)
    slot = {labels.SLOT: str(need.slot)}
    return {**chosen, **dialect, **owner_labels(workspace), **slot}


def _annotations(workspace: Workspace, need: ClaimNeed) -> dict[str, str]:
    return {
        labels.WORKSPACE_UID: workspace.metadata.uid,
        labels.ATTEMPT: str(need.attempt),
    }


def _requirements(wanted: dict[str, str]) -> list[dict[str, Any]]:
    return [{"key": key, "operator": "In", "values": [value]} for key, value in wanted.items()]


def _requests(need: ClaimNeed, disk: str) -> dict[str, str]:
    return {disk: need.disk, labels.GPU_RESOURCE: str(need.gpus)}


def _disk_resource(node_class: NodeClass) -> str:
    """What a class's provisioner knows disk as.

    Karpenter waits until a Node shows every resource that its claim asks for, and no kubelet shows
    one called `storage`.
    """
    return "storage" if node_class.group == KaitoNodeClass.RESOURCE.group else "ephemeral-storage"
