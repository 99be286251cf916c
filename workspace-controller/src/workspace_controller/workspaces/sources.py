"""Resolves what an inference refers to beside its model: adapters, and the server's settings.

Invariant: ConfigMaps are read one by one, by name, and each at most every 30 seconds: the controller
keeps no copy of the cluster's ConfigMaps and needs no right to list them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

import yaml

from controlkit.cache import Cache
from controlkit.errors import Blocked
from controlkit.kube.client import KubeClient
from controlkit.kube.objects import Key
from gpuapis.core import ConfigMap
from gpuapis.workspace import AdapterSpec, Workspace
from workspace_controller.manifests.adapters import Adapter, adapter
from workspace_controller.manifests.digest import digest
from workspace_controller.manifests.model_pod import CONFIG_KEY
from workspace_controller.presets.catalog import Catalog
from workspace_controller.tuning.results import tuned_image
from workspace_controller.workspaces import reasons
from workspace_controller.workspaces.facts import Problem

REREAD: Final = timedelta(seconds=30)
"""How old what we know of a ConfigMap may be: nothing tells us that it has changed."""


@dataclass(frozen=True)
class Sources:
    """What was found of the things that a Workspace refers to."""

    adapters: tuple[Adapter, ...] = ()
    config: str = ""
    """The digest of the server's settings; "" where the Workspace names none."""
    missing: Problem | None = None
    """The first thing that is not there, or is there and unusable."""
    untuned: Problem | None = None
    """Why an adapter of a tuning Workspace has no image; what serves already needs none."""
    look_again: float | None = None
    """Seconds until it has to be read again."""


@dataclass(frozen=True)
class _Reading:
    digest: str
    at: datetime


class SourceReader:
    """Finds what Workspaces refer to."""

    def __init__(
        self,
        client: KubeClient,
        workspaces: Cache[Workspace],
        catalog: Catalog,
        now: Callable[[], datetime],
    ) -> None:
        self._client = client
        self._workspaces = workspaces
        self._catalog = catalog
        self._now = now
        self._readings: dict[Key, _Reading] = {}

    async def find(self, workspace: Workspace) -> Sources:
        """What is there now.

        Raises:
            ControlError: the API server cannot be asked.
        """
        assert workspace.inference is not None
        found = [self._adapter(workspace, spec) for spec in workspace.inference.adapters]
        adapters = tuple(each for each, _ in found)
        untuned = next((problem for _, problem in found if problem is not None), None)
        name = workspace.inference.config
        if name is None:
            return Sources(adapters, untuned=untuned)
        config = await self._config(Key(workspace.metadata.namespace, name))
        again = REREAD.total_seconds()
        if isinstance(config, Problem):
            return Sources(adapters, missing=config, untuned=untuned, look_again=again)
        return Sources(adapters, config, untuned=untuned, look_again=again)

    def _adapter(self, workspace: Workspace, spec: AdapterSpec) -> tuple[Adapter, Problem | None]:
        """An adapter, with its image where a tuning Workspace makes it; or why it has none yet."""
        known = adapter(spec)
        name = spec.source.workspace if spec.source is not None else None
        if name is None:
            return known, None
        assert workspace.inference is not None
        assert workspace.inference.preset is not None
        tuned = self._workspaces.get(Key(workspace.metadata.namespace, name))
        image = tuned_image(name, tuned, workspace.inference.preset.name, self._catalog)
        if isinstance(image, Problem):
            return known, image
        secrets = tuple(dict.fromkeys((*known.pull_secrets, *image.pull_secrets)))
        return replace(known, image=image.reference, pull_secrets=secrets), None

    async def _config(self, key: Key) -> str | Problem:
        now = self._now()
        known = self._readings.get(key)
        if known is not None and now - known.at < REREAD:
            return known.digest
        for old in [k for k, reading in self._readings.items() if now - reading.at >= REREAD]:
            del self._readings[old]
        found = await self._read(key)
        if not isinstance(found, Problem):
            self._readings[key] = _Reading(found, now)
        return found

    async def _read(self, key: Key) -> str | Problem:
        try:
            found = await self._client.get(ConfigMap, key)
        except Blocked as error:
            return _not_ready(f"ConfigMap {key.name} cannot be read: {error.message}")
        if found is None:
            return _not_ready(
                f"ConfigMap {key.name} does not exist in namespace {key.namespace}: create it with "
                f"the key {CONFIG_KEY}, or leave inference.config out"
            )
        text = found.data.get(CONFIG_KEY)
        if text is None:
            keys = ", ".join(sorted(found.data)) or "none"
            return _not_ready(
                f"ConfigMap {key.name} has no key {CONFIG_KEY}; the keys it has: {keys}"
            )
        problem = _yaml_problem(text)
        if problem is not None:
            return _not_ready(f"{CONFIG_KEY} of ConfigMap {key.name} {problem}")
        return digest(text)


def _not_ready(message: str) -> Problem:
    return Problem(reasons.CONFIG_NOT_READY, f"inference.config: {message}")


def _yaml_problem(text: str) -> str | None:
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        return f"is not YAML: {' '.join(str(error).split())}"
    if content is not None and not isinstance(content, dict):
        return (
            f"holds a {type(content).__name__}, not settings by name, such as max_model_len: 4096"
        )
    return None
