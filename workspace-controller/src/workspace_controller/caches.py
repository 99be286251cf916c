"""The copies of the cluster that the controller decides on, and what keeps them current.

Invariant: a pass reads from here alone; the collections hold only what concerns Workspaces, except
Nodes, of which any may become one's.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from controlkit.cache import Cache
from controlkit.kube.client import KubeClient
from controlkit.kube.reflector import Reflector
from gpuapis import labels
from gpuapis.core import Deployment, Job, Node, Pod, Service, StatefulSet
from gpuapis.machine import Machine
from gpuapis.nodeclaim import NodeClaim
from gpuapis.workspace import Workspace
from workspace_controller.claims.dialects import node_index, owner_index
from workspace_controller.workspaces import reasons

OWNER: Final = "owner"
NODE: Final = "node"
UID: Final = "uid"
ADAPTS: Final = "adapts"
RESERVED: Final = "reserved"
FREE: Final = "free"
SHORT: Final = "short"


def _short(workspace: Workspace) -> Iterable[str]:
    """Those that wait for a node to come free."""
    if any(each.reason == reasons.NO_FREE_NODE for each in workspace.status.conditions):
        yield SHORT


def _uid(workspace: Workspace) -> Iterable[str]:
    yield workspace.metadata.uid


def _adapts(workspace: Workspace) -> Iterable[str]:
    """The tuning Workspaces, as `namespace/name`, whose results this one serves."""
    for adapter in workspace.inference.adapters if workspace.inference is not None else ():
        if adapter.source is not None and adapter.source.workspace is not None:
            yield f"{workspace.metadata.namespace}/{adapter.source.workspace}"


def _owner_of_pod(pod: Pod) -> Iterable[str]:
    yield f"{pod.metadata.namespace}/{pod.metadata.labels[labels.WORKSPACE]}"


def _reserved(node: Node) -> Iterable[str]:
    if labels.RESERVED_FOR in node.metadata.labels:
        yield node.metadata.labels[labels.RESERVED_FOR]


def is_free(node: Node) -> bool:
    """Whether a node is there for the taking, as far as it shows itself."""
    return any(True for _ in _free(node))


def _free(node: Node) -> Iterable[str]:
    """Nodes with GPUs that no claim of ours made; a reservation may have outlived its owner."""
    owned = any(mark in node.metadata.labels for mark in labels.OWNER_MARKS)
    usable = node.ready and not node.deleting and not node.spec.unschedulable
    if usable and not owned and node.allocatable(labels.GPU_RESOURCE):
        yield FREE


@dataclass(frozen=True)
class Caches:
    """One cache per kind."""

    workspaces: Cache[Workspace] = field(
        default_factory=lambda: Cache(
            Workspace, indexes={SHORT: _short, UID: _uid, ADAPTS: _adapts}
        )
    )
    machines: Cache[Machine] = field(
        default_factory=lambda: Cache(Machine, indexes={OWNER: owner_index, NODE: node_index})
    )
    nodeclaims: Cache[NodeClaim] = field(
        default_factory=lambda: Cache(NodeClaim, indexes={OWNER: owner_index, NODE: node_index})
    )
    nodes: Cache[Node] = field(
        default_factory=lambda: Cache(Node, indexes={RESERVED: _reserved, FREE: _free})
    )
    pods: Cache[Pod] = field(default_factory=lambda: Cache(Pod, indexes={OWNER: _owner_of_pod}))
    deployments: Cache[Deployment] = field(default_factory=lambda: Cache(Deployment))
    stateful_sets: Cache[StatefulSet] = field(default_factory=lambda: Cache(StatefulSet))
    services: Cache[Service] = field(default_factory=lambda: Cache(Service))
    jobs: Cache[Job] = field(default_factory=lambda: Cache(Job))

    def claims_of(self, owner: str) -> list[Machine | NodeClaim]:
        """The claims of a Workspace, named as `namespace/name`, of both kinds."""
        return [*self.machines.by_index(OWNER, owner), *self.nodeclaims.by_index(OWNER, owner)]

    def claims_on(self, node: str) -> list[Machine | NodeClaim]:
        """The claims that became this node: one at most, if all is well."""
        return [*self.machines.by_index(NODE, node), *self.nodeclaims.by_index(NODE, node)]

    def reflectors(self, client: KubeClient) -> list[Reflector[Any]]:
        """What fills and follows the caches."""
        mine = labels.WORKSPACE
        return [
            Reflector(client, self.workspaces),
            Reflector(client, self.machines, label_selector=mine, optional=True),
            Reflector(client, self.nodeclaims, label_selector=mine, optional=True),
            Reflector(client, self.nodes),
            Reflector(client, self.pods, label_selector=mine),
            Reflector(client, self.deployments, label_selector=mine),
            Reflector(client, self.stateful_sets, label_selector=mine),
            Reflector(client, self.services, label_selector=mine),
            Reflector(client, self.jobs, label_selector=mine),
        ]
