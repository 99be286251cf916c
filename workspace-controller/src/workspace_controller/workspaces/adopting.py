"""Chooses, among the nodes that are there already, those that a Workspace may take for itself.

Invariant: a node is offered only if the Workspace's pods could run on it at once, and if neither a
living Workspace has it nor a provisioner made it for a claim.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from gpuapis import labels
from gpuapis.core import Node
from gpuapis.workspace import LabelSelector, Workspace
from workspace_controller.caches import FREE, UID, Caches
from workspace_controller.manifests.ownership import TOLERATIONS, keeps_away, selector_values
from workspace_controller.manifests.template_pod import tolerations
from workspace_controller.workspaces.target import Target


def adoptable(
    caches: Caches, workspace: Workspace, target: Target | None, *, byo: bool
) -> tuple[str, ...]:
    """Free nodes that would do, the preferred ones first, then those in use before."""
    free = caches.nodes.by_index(FREE, FREE)
    if not free or target is None:
        return ()
    wanted = selector_values(workspace.resource.label_selector)
    if target.instance_type:
        wanted[labels.INSTANCE_TYPE] = (target.instance_type,)
    tolerated = _tolerations(workspace)
    preferred = {name: rank for rank, name in enumerate(workspace.resource.preferred_nodes)}
    fitting = [
        node.metadata.name
        for node in free
        if node.allocatable(labels.GPU_RESOURCE) >= target.gpus
        and _carries(node, wanted)
        and not any(keeps_away(taint, tolerated) for taint in node.spec.taints)
        and not _taken(caches, node, byo=byo)
    ]
    return tuple(
        sorted(
            fitting,
            key=lambda name: (
                preferred.get(name, len(preferred)),
                name not in workspace.status.worker_nodes,
                name,
            ),
        )
    )


def suits(node: Node, selector: LabelSelector) -> bool:
    """Whether a node carries the labels that a selector asks for; one that is no use never does."""
    try:
        return _carries(node, selector_values(selector))
    except ValueError:
        return False


def _carries(node: Node, wanted: Mapping[str, tuple[str, ...]]) -> bool:
    return all(node.metadata.labels.get(key) in values for key, values in wanted.items())


def _taken(caches: Caches, node: Node, *, byo: bool) -> bool:
    """Whether a living Workspace has reserved it, or some provisioner made it for a claim."""
    if caches.claims_on(node.metadata.name):
        return True
    holder = node.metadata.labels.get(labels.RESERVED_FOR)
    if holder is not None and caches.workspaces.by_index(UID, holder):
        return True
    made = (labels.PROVISIONER_NAME, labels.NODEPOOL)
    return not byo and any(mark in node.metadata.labels for mark in made)


def _tolerations(workspace: Workspace) -> Iterable[Mapping[str, Any]]:
    """The taints that this Workspace's pods do not mind."""
    template = workspace.inference.template if workspace.inference is not None else None
    return TOLERATIONS if template is None else tolerations(template)
