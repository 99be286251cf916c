"""Reads all that a pass needs to know about a run: its Job, its pods, its configuration, its record.

Invariant: the pods of a Job that has ended are asked of the API server, because a cache may be late
and their last words are read once; of a run that has succeeded nothing but the record is read.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from controlkit.errors import Blocked
from controlkit.kube.client import KubeClient
from controlkit.kube.objects import Key, metadata_only
from gpuapis import labels
from gpuapis.core import ConfigMap, Job, Pod
from gpuapis.workspace import Workspace
from workspace_controller.caches import OWNER, Caches
from workspace_controller.manifests.digest import digest
from workspace_controller.manifests.training_config import (
    TEMPLATES,
    UnusableConfig,
    copy_name,
    method_of,
    output_folder,
)
from workspace_controller.manifests.tuning_job import asked_digest
from workspace_controller.rules.training_config import KEY
from workspace_controller.tuning.endings import at_work, began, ending
from workspace_controller.tuning.facts import JobPhase, Record, Tuning, Unusable, recorded
from workspace_controller.tuning.progress import Heard
from workspace_controller.workspaces import reasons
from workspace_controller.workspaces.children import owner_of


@dataclass(frozen=True)
class _Wish:
    """The run that is asked for, as far as its configuration can be read."""

    run: str
    output: str = ""
    unusable: Unusable | None = None


@dataclass(frozen=True)
class RunObserver:
    """Sees one Workspace's run at a time."""

    client: KubeClient
    caches: Caches
    heard: Heard
    namespace: str
    """Where the release keeps the default training configurations."""
    release_node: bool = True
    """Give a node up when its run has ended, where the Workspace does not say."""

    async def observe(self, workspace: Workspace) -> Tuning:
        """All that is known of the run now.

        Raises:
            ControlError: a configuration or pods could not be read.
        """
        record = recorded(workspace.status.tuning)
        job = self.caches.jobs.get(workspace.key)
        wish = await self._wish(workspace, record, job)
        phase = _phase(job) if job is not None and _is_of(job, wish.run, workspace) else "absent"
        ended = record is not None and record.run == wish.run and record.result is not None
        pods: list[Pod] = []
        if job is not None and phase != "absent" and not ended:
            pods = await self._pods(workspace, job, live=phase != "active")
        working = at_work(pods, workspace)
        return Tuning(
            wanted=wish.run,
            output=wish.output,
            own_config=_config(workspace) is not None,
            unusable=wish.unusable,
            job=phase,
            verdict=_verdict(job),
            finished_at=_finished_at(job),
            failures=job.status.failed if job is not None else 0,
            started_at=began(pods, workspace),
            at_work=working,
            ending=ending(pods, workspace),
            # What was heard last may be of the run before.
            progress=self.heard.of(workspace.key) if working else None,
            record=record,
            keep_node=self._keeps(workspace),
            destination=_destination(workspace),
        )

    def _keeps(self, workspace: Workspace) -> bool:
        said = workspace.metadata.annotations.get(labels.KEEP_NODE, "").lower()
        return said == "true" if said in ("true", "false") else not self.release_node

    async def _pods(self, workspace: Workspace, job: Job, *, live: bool) -> list[Pod]:
        found: Iterable[Pod] = self.caches.pods.by_index(OWNER, str(workspace.key))
        if live:
            selector = f"{labels.JOB_UID}={job.metadata.uid}"
            listing = await self.client.list(
                Pod, namespace=workspace.key.namespace, label_selector=selector
            )
            found = listing.items
        return [pod for pod in found if pod.metadata.labels.get(labels.JOB_UID) == job.metadata.uid]

    # ---- the training configuration ----

    async def _wish(self, workspace: Workspace, record: Record | None, job: Job | None) -> _Wish:
        """Names the run; the defaults are not part of its name, for an upgrade runs nothing again.

        Neither is an edit of the user's ConfigMap after a run that succeeded: others may use it.
        """
        asked = asked_digest(workspace)
        begun = ""
        if record is not None and record.run.startswith(asked):
            if record.result == "Succeeded":
                return _Wish(record.run)
            if record.result == "Failed" or _is_of(job, record.run, workspace):
                begun = record.run
        name = _config(workspace)
        if name is not None:
            return await self._own(workspace, Key(workspace.key.namespace, name), asked, begun)
        if begun or _is_of(job, asked, workspace):
            return _Wish(asked)
        return await self._defaults(workspace, asked)

    async def _own(self, workspace: Workspace, key: Key, asked: str, begun: str) -> _Wish:
        """The user's ConfigMap; that it is gone or spoilt ends no run that has begun."""
        try:
            found = await self.client.get(ConfigMap, key)
        except Blocked as error:
            barred = f"ConfigMap {key} of tuning.config cannot be read: {error.message}"
            return _Wish(begun, unusable=Unusable(reasons.TUNING_CONFIG_UNUSABLE, barred))
        if found is None:
            missing = Unusable(
                reasons.TUNING_CONFIG_MISSING,
                f"tuning.config names ConfigMap {key}, which is not there: create it with the key "
                f"{KEY}",
            )
            return _Wish(begun) if begun else _Wish("", unusable=missing)
        text = found.data.get(KEY)
        try:
            output = output_folder(text, method_of(workspace))
        except UnusableConfig as error:
            bad = Unusable(reasons.TUNING_CONFIG_UNUSABLE, f"ConfigMap {key}: {error}")
            return _Wish(begun, unusable=bad)
        return _Wish(f"{asked}-{digest(text)}", output)

    async def _defaults(self, workspace: Workspace, run: str) -> _Wish:
        method = method_of(workspace)
        key = Key(self.namespace, TEMPLATES.get(method, TEMPLATES["lora"]))
        found = await self.client.get(ConfigMap, key)
        remedy = "repair it with helm upgrade, or name a ConfigMap of your own in tuning.config"
        if found is None:
            missing = f"ConfigMap {key} with the defaults is not there: {remedy}"
            return _Wish("", unusable=Unusable(reasons.TUNING_CONFIG_MISSING, missing))
        taken = await self._taken(workspace)
        if taken is not None:
            return _Wish("", unusable=taken)
        try:
            return _Wish(run, output_folder(found.data.get(KEY), method))
        except UnusableConfig as error:
            bad = f"ConfigMap {key} with the defaults cannot be used: {error}; {remedy}"
            return _Wish("", unusable=Unusable(reasons.TUNING_CONFIG_UNUSABLE, bad))

    async def _taken(self, workspace: Workspace) -> Unusable | None:
        """Whether the run's copy of the defaults would write over somebody else's ConfigMap."""
        key = Key(workspace.key.namespace, copy_name(workspace))
        there = await self.client.get(metadata_only(ConfigMap.RESOURCE), key)
        if there is None or owner_of(there, workspace) == "ours":
            return None
        return Unusable(
            reasons.NAME_TAKEN,
            f"ConfigMap {key} exists and is not ours, and the run's copy of the defaults needs the "
            "name. Delete it, or name it in tuning.config.",
        )


def _config(workspace: Workspace) -> str | None:
    assert workspace.tuning is not None
    return workspace.tuning.config


def _is_of(job: Job | None, run: str, workspace: Workspace) -> bool:
    """Whether a Job is the Workspace's own, made for that run."""
    if job is None or job.metadata.annotations.get(labels.SPEC_HASH) != run:
        return False
    return any(each.uid == workspace.metadata.uid for each in job.metadata.owner_references)


def _phase(job: Job) -> JobPhase:
    """By the Job's conditions: pods that failed may be followed by one that does not."""
    done = {each.type for each in job.status.conditions if each.status == "True"}
    if "Complete" in done:
        return "complete"
    return "failed" if "Failed" in done else "active"


def _verdict(job: Job | None) -> tuple[str, str]:
    conditions = job.status.conditions if job is not None else ()
    failed = (each for each in conditions if each.type == "Failed" and each.status == "True")
    return next(((each.reason, each.message) for each in failed), ("", ""))


def _finished_at(job: Job | None) -> datetime | None:
    if job is None:
        return None
    ends = (c for c in job.status.conditions if c.type in ("Complete", "Failed"))
    moments = [each.last_transition_time for each in ends if each.status == "True"]
    return job.status.completion_time or next(iter(moments), None)


def _destination(workspace: Workspace) -> str:
    assert workspace.tuning is not None
    return workspace.tuning.output.image or "the volume of tuning.output.volumeSource"
