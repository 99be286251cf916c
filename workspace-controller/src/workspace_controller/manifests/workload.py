"""The workload that runs a model: around our server for a preset, around the user's own template.

Invariant: a rollout never asks for a GPU that the Workspace does not have: an old pod goes before
its successor comes.
"""

from datetime import timedelta
from typing import Any, Final

from gpuapis import labels
from gpuapis.core import Deployment, StatefulSet
from gpuapis.workspace import Workspace
from workspace_controller.manifests.digest import digest
from workspace_controller.manifests.model import Model, ModelSource
from workspace_controller.manifests.model_pod import model_pod, wished_engine
from workspace_controller.manifests.ownership import child_metadata
from workspace_controller.manifests.service import headless_name
from workspace_controller.manifests.template_pod import template_pod

IMAGE_PULL: Final = timedelta(minutes=15)
"""What the image may take, on top of download and loading."""


def workload_digest(workspace: Workspace, model: Model) -> str:
    """The hash of what the user wrote about the workload.

    The number of pods is part of it only where each pod must know it. Defaults are left out, and so
    is what is not there: a default or a field of a later version must not look like an edit.
    """
    assert workspace.inference is not None
    asked = (workspace.inference, workspace.resource.label_selector)
    parts: list[Any] = [
        part.model_dump(mode="json", by_alias=True, exclude_defaults=True) for part in asked
    ]
    more = {name: value for name, value in _beside_the_spec(workspace, model).items() if value}
    return digest(*parts, *([more] if more else []))


def _beside_the_spec(workspace: Workspace, model: Model) -> dict[str, Any]:
    """What the user changes elsewhere: annotations, objects that the spec refers to, the count.

    What a tuning Workspace makes is not among it: a run of it again must not restart what serves.
    """
    return {
        "config": model.config,
        "engine": wished_engine(workspace) if model.preset and not model.spread else "",
        "nodes": model.nodes if model.spread else 0,
        "version": workspace.metadata.annotations.get(labels.UPGRADE_TO_VERSION, ""),
    }


def workload(workspace: Workspace, model: Model, source: ModelSource) -> dict[str, Any]:
    """The workload of the Model's kind."""
    if model.preset is None:
        metadata, spec = template_pod(workspace)
    else:
        metadata, spec = model_pod(workspace, model, source)
    body = {
        "selector": {"matchLabels": {labels.WORKSPACE: workspace.metadata.name}},
        "template": {"metadata": metadata, "spec": spec},
    }
    view = StatefulSet if model.spread else Deployment
    return {
        "apiVersion": view.RESOURCE.api_version,
        "kind": view.RESOURCE.kind,
        "metadata": child_metadata(workspace, workload_digest(workspace, model)),
        "spec": (_together(workspace, model) if model.spread else _alike(workspace, model)) | body,
    }


def _alike(workspace: Workspace, model: Model) -> dict[str, Any]:
    """Pods of which each is a copy of the model."""
    deadline = {}
    if model.preset is not None:
        # Kubernetes' ten minutes would report a large model that is still loading as failed.
        patience = model.preset.readiness_timeout + IMAGE_PULL
        deadline = {"progressDeadlineSeconds": int(patience.total_seconds())}
    return {
        "replicas": workspace.resource.count,
        **deadline,
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1},
        },
    }


def _together(workspace: Workspace, model: Model) -> dict[str, Any]:
    """Pods that make one copy of the model, so they come, change and go together.

    OnDelete, because replacing them one by one would mix two versions in one copy; a changed
    StatefulSet is removed and made anew instead.
    """
    return {
        "replicas": model.nodes,
        "serviceName": headless_name(workspace.metadata.name),
        "podManagementPolicy": "Parallel",
        "updateStrategy": {"type": "OnDelete"},
    }
