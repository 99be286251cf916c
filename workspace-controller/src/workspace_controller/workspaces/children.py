"""The objects that serve a Workspace's model: for each kind its name, its hash and its manifest.

Invariant: observing and carrying out read the same table, so that what is compared is what is made.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from controlkit.cache import Cache
from controlkit.kube.objects import Key, KubeObject
from gpuapis import labels
from gpuapis.core import Deployment, Service, StatefulSet
from gpuapis.workspace import Workspace
from workspace_controller.caches import Caches
from workspace_controller.manifests.model import Model, ModelSource
from workspace_controller.manifests.service import (
    headless_digest,
    headless_name,
    headless_service,
    service,
    service_digest,
)
from workspace_controller.manifests.workload import workload, workload_digest
from workspace_controller.workspaces.facts import Child, ChildKind, Owner


@dataclass(frozen=True)
class ChildType:
    """How objects of one kind are found and built."""

    view: type[KubeObject]
    cache: Callable[[Caches], Cache[Any]]
    name: Callable[[str], str]
    """The child's name, from its Workspace's."""
    digest: Callable[[Workspace, Model], str]
    """The hash of what it should be; "" when it should not be."""
    manifest: Callable[[Workspace, Model, ModelSource], dict[str, Any]]

    def key(self, workspace: Workspace) -> Key:
        """Where it is."""
        return Key(workspace.key.namespace, self.name(workspace.key.name))


def _same(name: str) -> str:
    return name


def _deployment_digest(workspace: Workspace, model: Model) -> str:
    return workload_digest(workspace, model) if model.kind == "Deployment" else ""


def _stateful_set_digest(workspace: Workspace, model: Model) -> str:
    return workload_digest(workspace, model) if model.kind == "StatefulSet" else ""


TYPES: Final[Mapping[ChildKind, ChildType]] = {
    "Service": ChildType(
        Service,
        lambda caches: caches.services,
        _same,
        service_digest,
        lambda workspace, model, _: service(workspace, model),
    ),
    "HeadlessService": ChildType(
        Service,
        lambda caches: caches.services,
        headless_name,
        lambda _, model: headless_digest(model),
        lambda workspace, model, _: headless_service(workspace, model),
    ),
    "Deployment": ChildType(
        Deployment, lambda caches: caches.deployments, _same, _deployment_digest, workload
    ),
    "StatefulSet": ChildType(
        StatefulSet, lambda caches: caches.stateful_sets, _same, _stateful_set_digest, workload
    ),
}
"""In the order in which they are made: a pod's name is looked up as soon as it runs."""


def children(
    caches: Caches, workspace: Workspace, model: Model | None, *, frozen: bool
) -> tuple[Child, ...]:
    """Every child: as found, and as it should be where that can be known.

    Args:
        caches: where they are found.
        workspace: whose they are.
        model: what they serve; None where that cannot be known.
        frozen: those that are there stay as they are, and no others are wanted.
    """
    return tuple(
        _child(kind, each, caches, workspace, model, frozen=frozen) for kind, each in TYPES.items()
    )


def _child(
    kind: ChildKind,
    how: ChildType,
    caches: Caches,
    workspace: Workspace,
    model: Model | None,
    *,
    frozen: bool,
) -> Child:
    name = how.name(workspace.key.name)
    found: KubeObject | None = how.cache(caches).get(how.key(workspace))
    wanted = how.digest(workspace, model) if model is not None and not frozen else ""
    if found is None:
        return Child(kind, wanted, name=name)
    child = replace(child_of(kind, found, workspace), wanted=wanted)
    return replace(child, wanted=child.found) if frozen and child.owner == "ours" else child


def child_of(kind: ChildKind, found: KubeObject | None, workspace: Workspace) -> Child:
    """An object that has the name of a child, as it is; what it should be is not said."""
    if found is None:
        return Child(kind, name=workspace.key.name)
    return Child(
        kind,
        "",
        found.metadata.annotations.get(labels.SPEC_HASH, ""),
        owner_of(found, workspace),
        found.deleting,
        found.key.name,
    )


def owner_of(found: KubeObject, workspace: Workspace) -> Owner:
    """Whose an object is that has the name of a Workspace's child."""
    for owner in found.metadata.owner_references:
        if owner.uid == workspace.metadata.uid:
            return "ours"
        if owner.kind == Workspace.RESOURCE.kind and owner.name == workspace.metadata.name:
            return "previous"
    return "foreign"


def as_it_runs(caches: Caches, workspace: Workspace, model: Model) -> Model:
    """The Model, as one copy or as many, whichever is running from the same wish.

    How much memory a model needs is knowledge that may change with the controller's version; what
    serves is not torn down for that.
    """
    count = workspace.resource.count
    if count == 1 or model.preset is None:
        return model
    other = replace(model, nodes=1 if model.spread else count)
    how = TYPES[other.kind]
    found: Deployment | StatefulSet | None = how.cache(caches).get(how.key(workspace))
    if found is None or found.deleting or owner_of(found, workspace) != "ours":
        return model
    carried = found.metadata.annotations.get(labels.SPEC_HASH, "")
    unchanged = carried == how.digest(workspace, other) and found.spec.replicas == count
    return other if unchanged else model
