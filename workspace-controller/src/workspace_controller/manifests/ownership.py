"""What marks an object as a Workspace's, and where its pods may run.

Invariant: ownership keys always win over labels that a person chose, so that no selector can steal
another Workspace's nodes.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from gpuapis import labels
from gpuapis.machine import Taint
from gpuapis.workspace import LabelSelector, Workspace


def owner_labels(workspace: Workspace) -> dict[str, str]:
    """The two labels that name the owner, on claims and, through them, on nodes."""
    return {
        labels.WORKSPACE: workspace.metadata.name,
        labels.WORKSPACE_NAMESPACE: workspace.metadata.namespace,
    }


def child_metadata(workspace: Workspace, digest: str) -> dict[str, Any]:
    """The metadata of a namespaced child that is named as the Workspace and dies with it."""
    return {
        "name": workspace.metadata.name,
        "namespace": workspace.metadata.namespace,
        "labels": {labels.WORKSPACE: workspace.metadata.name},
        "annotations": {labels.SPEC_HASH: digest},
        "ownerReferences": [
            {
                "apiVersion": Workspace.RESOURCE.api_version,
                "kind": Workspace.RESOURCE.kind,
                "name": workspace.metadata.name,
                "uid": workspace.metadata.uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }


def selector_labels(selector: LabelSelector) -> dict[str, str]:
    """The selector as plain labels: matchLabels, and `In` expressions with one value.

    Raises:
        ValueError: an expression that no set of labels can fulfil; the message names it.
    """
    chosen = dict(selector.match_labels)
    for expression in selector.match_expressions:
        if expression.operator != "In" or len(expression.values) != 1:
            raise ValueError(
                f"the expression on {expression.key!r} uses {expression.operator} with "
                f"{len(expression.values)} values; use matchLabels, or In with exactly one value"
            )
        value = expression.values[0]
        if chosen.setdefault(expression.key, value) != value:
            raise ValueError(f"{expression.key!r} is asked to have two values")
    return chosen


def node_terms(workspace: Workspace) -> list[dict[str, Any]]:
    """Node selector terms: nodes made for this Workspace, or existing ones it has reserved."""
    chosen = selector_labels(workspace.resource.label_selector)
    made = {**chosen, **owner_labels(workspace)}
    taken = {**chosen, labels.RESERVED_FOR: workspace.metadata.uid}
    return [
        {
            "matchExpressions": [
                {"key": key, "operator": "In", "values": [value]}
                for key, value in sorted(terms.items())
            ]
        }
        for terms in (made, taken)
    ]


TOLERATIONS: tuple[dict[str, str], ...] = (
    {"key": labels.GPU_RESOURCE, "operator": "Exists", "effect": "NoSchedule"},
    {
        "key": labels.SKU_TAINT,
        "operator": "Equal",
        "value": labels.SKU_TAINT_VALUE,
        "effect": "NoSchedule",
    },
)
"""The taints of GPU nodes, which a model's pods do not mind."""


def placement(workspace: Workspace) -> dict[str, Any]:
    """What binds a pod to the Workspace's nodes: the parts of its spec by their names."""
    terms = {"nodeSelectorTerms": node_terms(workspace)}
    return {
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}},
        "tolerations": [dict(toleration) for toleration in TOLERATIONS],
    }


def keeps_away(taint: Taint, tolerations: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a node with that taint takes no new pod with those tolerations, or evicts it."""
    if taint.effect not in ("NoSchedule", "NoExecute"):
        return False
    return not any(_tolerates(each, taint) for each in tolerations)


def _tolerates(toleration: Mapping[str, Any], taint: Taint) -> bool:
    """As the scheduler judges; an empty key or effect stands for all of them."""
    if toleration.get("effect") not in (None, "", taint.effect):
        return False
    if toleration.get("operator") == "Exists":
        return toleration.get("key") in (None, "", taint.key)
    return (toleration.get("key"), toleration.get("value") or "") == (taint.key, taint.value)
