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


def selector_values(selector: LabelSelector) -> dict[str, tuple[str, ...]]:
    """The selector as the values that each label of a node may have: of matchLabels and `In`.

    Raises:
        ValueError: an expression that no set of labels can fulfil; the message names it.
    """
    allowed: dict[str, tuple[str, ...]] = {
        key: (value,) for key, value in selector.match_labels.items()
    }
    for expression in selector.match_expressions:
        if expression.operator != "In" or not expression.values:
            raise ValueError(
                f"the expression on {expression.key!r} uses {expression.operator} with "
                f"{len(expression.values)} values; use matchLabels, or In with at least one value"
            )
        before = allowed.get(expression.key, expression.values)
        both = tuple(value for value in before if value in expression.values)
        if not both:
            raise ValueError(
                f"no value of {expression.key!r} fulfils all that is asked of it: "
                f"{', '.join(before)} on one side, {', '.join(expression.values)} on the other"
            )
        allowed[expression.key] = both
    return allowed


def selector_labels(selector: LabelSelector) -> dict[str, str]:
    """The labels of a node that is made for the selector: the first value of each key.

    Raises:
        ValueError: as `selector_values`.
    """
    return {key: values[0] for key, values in selector_values(selector).items()}


def node_terms(workspace: Workspace) -> list[dict[str, Any]]:
    """Node selector terms: nodes made for this Workspace, or existing ones it has reserved."""
    chosen = selector_values(workspace.resource.label_selector)
    made = chosen | {key: (value,) for key, value in owner_labels(workspace).items()}
    taken = chosen | {labels.RESERVED_FOR: (workspace.metadata.uid,)}
    return [
        {
            "matchExpressions": [
                {"key": key, "operator": "In", "values": list(values)}
                for key, values in sorted(terms.items())
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
