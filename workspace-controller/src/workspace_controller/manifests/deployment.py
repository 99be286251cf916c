"""The Deployment that runs a model: around our server for a preset, around the user's pod template.

Invariant: a rollout never asks for a GPU that the Workspace does not have: an old pod goes before
its successor comes.
"""

from datetime import timedelta
from typing import Any, Final

from gpuapis import labels
from gpuapis.core import Deployment
from gpuapis.workspace import Workspace
from workspace_controller.manifests.digest import digest
from workspace_controller.manifests.model_pod import ModelSource, model_pod
from workspace_controller.manifests.ownership import child_metadata
from workspace_controller.manifests.template_pod import template_pod
from workspace_controller.presets.catalog import Preset

IMAGE_PULL: Final = timedelta(minutes=15)
"""What the image may take, on top of download and loading."""


def deployment_digest(workspace: Workspace) -> str:
    """The hash of what the user wrote about the workload; the number of pods is not part of it.

    Defaults are left out: one that a later CRD adds must not look like an edit.
    """
    assert workspace.inference is not None
    asked = (workspace.inference, workspace.resource.label_selector)
    return digest(
        *(part.model_dump(mode="json", by_alias=True, exclude_defaults=True) for part in asked)
    )


def deployment(workspace: Workspace, preset: Preset | None, source: ModelSource) -> dict[str, Any]:
    """The Deployment of a Workspace; `preset` is None for a template."""
    if preset is None:
        metadata, spec = template_pod(workspace)
        deadline = {}
    else:
        metadata, spec = model_pod(workspace, preset, source)
        # Kubernetes' ten minutes would report a large model that is still loading as failed.
        patience = preset.readiness_timeout + IMAGE_PULL
        deadline = {"progressDeadlineSeconds": int(patience.total_seconds())}
    return {
        "apiVersion": Deployment.RESOURCE.api_version,
        "kind": Deployment.RESOURCE.kind,
        "metadata": child_metadata(workspace, deployment_digest(workspace)),
        "spec": {
            "replicas": workspace.resource.count,
            **deadline,
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1},
            },
            "selector": {"matchLabels": {labels.WORKSPACE: workspace.metadata.name}},
            "template": {"metadata": metadata, "spec": spec},
        },
    }
