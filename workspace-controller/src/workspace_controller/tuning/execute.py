"""Carries out what a plan says about a run: its Job judged, made and removed.

Invariant: a Job is made only after the one before it and its pods are gone, so that no two trainings
ever push to one place.
"""

from dataclasses import dataclass

import structlog

from controlkit.errors import Stale
from controlkit.kube.client import KubeClient
from controlkit.kube.objects import Key
from gpuapis.core import ConfigMap, Job
from gpuapis.workspace import Workspace
from workspace_controller.caches import Caches
from workspace_controller.manifests.model import ModelSource
from workspace_controller.manifests.training_config import TEMPLATES, config_copy, method_of
from workspace_controller.manifests.tuning_job import Run, tuning_job
from workspace_controller.rules.training_config import KEY
from workspace_controller.workspaces.facts import StartRun, VetRun
from workspace_controller.workspaces.holding import Hold
from workspace_controller.workspaces.strangers import refuse_strangers
from workspace_controller.workspaces.target import Target
from workspace_controller.workspaces.vetting import Vetting

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class RunWriter:
    """Acts on the runs of one Workspace at a time."""

    client: KubeClient
    caches: Caches
    source: ModelSource
    vetting: Vetting
    hold: Hold
    namespace: str
    """Where the release keeps the default training configurations."""
    deadline: int = 0
    """Seconds after which a run is ended; 0 for as long as it takes."""

    async def vet(self, workspace: Workspace, target: Target, action: VetRun) -> None:
        """Everything that would happen to the Job, short of storing it.

        Raises:
            ControlError: what the API server said.
        """
        manifest = self._job(workspace, target, action.run, action.output)
        await self.client.apply(Job.RESOURCE, manifest, force=True, dry_run=True)
        self.vetting.accept(workspace, action.run)

    async def start(self, workspace: Workspace, target: Target, action: StartRun) -> None:
        """Makes the Job, after its copy of the defaults where it is to have one.

        Raises:
            ControlError: what the API server said.
        """
        await refuse_strangers(self.client, Job, workspace, workspace.key)
        if action.copy_defaults:
            await self._copy_defaults(workspace, action.run)
        manifest = self._job(workspace, target, action.run, action.output)
        written = await self.client.apply(Job.RESOURCE, manifest, force=True)
        self.hold(workspace.key, self.caches.jobs, workspace.key, written.resource_version)
        log.info("tuning run started", run=action.run)

    async def remove(self, workspace: Workspace) -> None:
        """Asks for the end of the Job, which goes when its pods have gone.

        Raises:
            ControlError: what the API server said.
        """
        seen = self.caches.jobs.get(workspace.key)
        await self.client.delete(
            Job.RESOURCE,
            workspace.key,
            uid=seen.metadata.uid if seen is not None else None,
            propagation="Foreground",
        )
        log.info("child removed", kind="Job")

    def _job(
        self, workspace: Workspace, target: Target, run: str, output: str
    ) -> dict[str, object]:
        assert target.preset is not None
        asked = Run(run, output, target.gpus, self.deadline)
        return tuning_job(workspace, target.preset, asked, self.source)

    async def _copy_defaults(self, workspace: Workspace, run: str) -> None:
        """Gives the run a training configuration that no upgrade changes under it."""
        template = Key(self.namespace, TEMPLATES[method_of(workspace)])
        found = await self.client.get(ConfigMap, template)
        if found is None or KEY not in found.data:
            raise Stale("DefaultsGone", f"ConfigMap {template} has gone since it was seen")
        copy = config_copy(workspace, run, found.data[KEY])
        key = Key(workspace.key.namespace, copy["metadata"]["name"])
        await refuse_strangers(self.client, ConfigMap, workspace, key)
        await self.client.apply(ConfigMap.RESOURCE, copy, force=True)
