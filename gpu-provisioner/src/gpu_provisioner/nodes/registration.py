"""What a node takes over from its claim: one patch, or none when it has all of it.

Invariant: pure; nothing that AKS put on the node is altered, and a startup taint that a daemon has
removed never comes back.
"""

from collections.abc import Mapping
from typing import Any, Final

from gpu_provisioner.claims.claim import Claim, Taint
from gpuapis.core import Node
from gpuapis.labels import (
    ASSIGNED_NODE,
    ASSIGNED_POOL,
    DISRUPTED_TAINT,
    DO_NOT_SYNC_TAINTS,
    EXCLUDE_FROM_LOAD_BALANCERS,
    INITIALIZED,
    PROVISION_STARTED,
    REGISTERED,
    TERMINATION_FINALIZER,
    UNREGISTERED_TAINT,
)

_OURS_ALONE: Final = frozenset(
    {
        PROVISION_STARTED,
        ASSIGNED_NODE,
        ASSIGNED_POOL,
        "kubectl.kubernetes.io/last-applied-configuration",
    }
)
_LB_VALUE: Final = "karpenter"

DISRUPTED: Final = Taint(DISRUPTED_TAINT, "", "NoSchedule")


def taints_of(node: Node) -> tuple[Taint, ...]:
    """The node's taints."""
    return tuple(Taint(each.key, each.value, each.effect) for each in node.spec.taints)


def registered(node: Node) -> bool:
    """Whether the node has taken over what its claim asks for."""
    return node.metadata.labels.get(REGISTERED) == "true" and held(node)


def held(node: Node) -> bool:
    """Whether our finalizer keeps the node until it was drained."""
    return TERMINATION_FINALIZER in node.metadata.finalizers


def registration_patch(node: Node, claim: Claim) -> dict[str, Any] | None:
    """The merge patch that makes a node the claim's; None when it is.

    It must be guarded by the node's resourceVersion, since it replaces whole lists.
    """
    if registered(node) and _owned_by(node, claim):
        return None
    labels = {**_for_nodes(claim.labels), REGISTERED: "true"}
    annotations = _for_nodes(claim.annotations)
    meta = node.metadata
    patch: dict[str, Any] = {
        "metadata": {
            "labels": labels,
            "annotations": annotations,
            "finalizers": list(dict.fromkeys((*meta.finalizers, TERMINATION_FINALIZER))),
            "ownerReferences": _owners(node, claim),
        }
    }
    if meta.labels.get(DO_NOT_SYNC_TAINTS) != "true" and meta.labels.get(REGISTERED) != "true":
        patch["spec"] = {"taints": _taints(node, claim)}
    return patch


def initialized_patch(node: Node) -> dict[str, Any] | None:
    """The merge patch that marks a node as ready for use; None when it is marked."""
    if node.metadata.labels.get(INITIALIZED) == "true":
        return None
    return {"metadata": {"labels": {INITIALIZED: "true"}}}


def cordoned(node: Node) -> bool:
    """Whether nothing new is placed on the node."""
    return any(DISRUPTED.like(taint) for taint in taints_of(node))


def cordon_patch(node: Node) -> dict[str, Any]:
    """The guarded merge patch that keeps new pods and load balancers away from a node."""
    return {
        "metadata": {"labels": {EXCLUDE_FROM_LOAD_BALANCERS: _LB_VALUE}},
        "spec": {"taints": [*_written(node), {"key": DISRUPTED.key, "effect": DISRUPTED.effect}]},
    }


def release_patch(node: Node) -> dict[str, Any]:
    """The guarded merge patch that takes our finalizer off a node."""
    kept = [name for name in node.metadata.finalizers if name != TERMINATION_FINALIZER]
    return {"metadata": {"finalizers": kept}}


def _for_nodes(marks: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in marks.items() if key not in _OURS_ALONE}


def _owned_by(node: Node, claim: Claim) -> bool:
    return any(owner.uid == claim.uid for owner in node.metadata.owner_references)


def _owners(node: Node, claim: Claim) -> list[dict[str, Any]]:
    """The node's owners, without an earlier claim of this name and with this one."""
    others = [
        owner.manifest()
        for owner in node.metadata.owner_references
        if (owner.kind, owner.name) != (claim.kind, claim.name)
    ]
    ours = {
        "apiVersion": claim.api_version,
        "kind": claim.kind,
        "name": claim.name,
        "uid": claim.uid,
        "blockOwnerDeletion": True,
    }
    return [*others, ours]


def _taints(node: Node, claim: Claim) -> list[dict[str, Any]]:
    has = taints_of(node)
    lacking = [
        taint
        for taint in (*claim.taints, *claim.startup_taints)
        if not any(taint.like(other) for other in has)
    ]
    kept = [taint for taint in _written(node) if taint["key"] != UNREGISTERED_TAINT]
    return kept + [
        {
            "key": taint.key,
            "effect": taint.effect,
            **({"value": taint.value} if taint.value else {}),
        }
        for taint in lacking
    ]


def _written(node: Node) -> list[dict[str, Any]]:
    return [taint.manifest() for taint in node.spec.taints]
