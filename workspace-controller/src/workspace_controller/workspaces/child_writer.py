"""Writes the objects that serve a model: judged, applied, scaled, removed.

Invariant: an object that somebody else made is neither changed nor removed, whatever its name.
"""

from dataclasses import dataclass
from typing import assert_never

import structlog

from controlkit.kube.client import KubeClient
from gpuapis.core import Deployment
from gpuapis.workspace import Workspace
from workspace_controller.caches import Caches
from workspace_controller.manifests.model import Model, ModelSource
from workspace_controller.workspaces.children import TYPES
from workspace_controller.workspaces.facts import ApplyChild, RemoveChild, Scale, Vet
from workspace_controller.workspaces.holding import Hold
from workspace_controller.workspaces.strangers import refuse_strangers
from workspace_controller.workspaces.vetting import Vetting

log = structlog.get_logger(__name__)

ChildAction = ApplyChild | RemoveChild | Scale | Vet


@dataclass(frozen=True)
class ChildWriter:
    """Acts on the children of one Workspace at a time."""

    client: KubeClient
    caches: Caches
    source: ModelSource
    vetting: Vetting
    hold: Hold

    async def carry_out(
        self, workspace: Workspace, model: Model | None, action: ChildAction
    ) -> None:
        """Performs one action.

        Raises:
            ControlError: what the API server said.
        """
        match action:
            case ApplyChild():
                assert model is not None
                await self._apply(workspace, model, action)
            case RemoveChild():
                await self._remove(workspace, action)
            case Scale():
                await self._scale(workspace, action.replicas)
            case Vet():
                assert model is not None
                await self._vet(workspace, model)
            case _:
                assert_never(action)

    async def _vet(self, workspace: Workspace, model: Model) -> None:
        """Everything that would happen to the workload, short of storing it."""
        child = TYPES[model.kind]
        await refuse_strangers(self.client, child.view, workspace, child.key(workspace))
        manifest = child.manifest(workspace, model, self.source)
        await self.client.apply(child.view.RESOURCE, manifest, force=True, dry_run=True)
        self.vetting.accept(workspace, child.digest(workspace, model))

    async def _apply(self, workspace: Workspace, model: Model, action: ApplyChild) -> None:
        child = TYPES[action.kind]
        key, cache = child.key(workspace), child.cache(self.caches)
        if cache.get(key) is None:
            await refuse_strangers(self.client, child.view, workspace, key)
        manifest = child.manifest(workspace, model, self.source)
        written = await self.client.apply(child.view.RESOURCE, manifest, force=True)
        self.hold(workspace.key, cache, key, written.resource_version)
        log.info("child applied", kind=action.kind)

    async def _remove(self, workspace: Workspace, action: RemoveChild) -> None:
        child = TYPES[action.kind]
        key = child.key(workspace)
        seen = child.cache(self.caches).get(key)
        await self.client.delete(
            child.view.RESOURCE,
            key,
            uid=seen.metadata.uid if seen is not None else None,
            propagation="Foreground" if action.with_pods else "Background",
        )
        log.info("child removed", kind=action.kind)

    async def _scale(self, workspace: Workspace, replicas: int) -> None:
        patch = {"spec": {"replicas": replicas}}
        written = await self.client.merge_patch(Deployment.RESOURCE, workspace.key, patch)
        self.hold(workspace.key, self.caches.deployments, workspace.key, written.resource_version)
        log.info("deployment scaled", replicas=replicas)
