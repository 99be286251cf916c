"""The Service under which a model answers.

Invariant: it never sends a request to a pod that is still loading, and a load balancer exposes
nothing but the HTTP port.
"""

from typing import Any, Final

from gpuapis import labels
from gpuapis.core import Service
from gpuapis.workspace import Workspace
from workspace_controller.manifests.digest import digest
from workspace_controller.manifests.ownership import child_metadata
from workspace_controller.manifests.template_pod import http_port

HTTP_PORT: Final = 80
MODEL_PORT: Final = 5000
TORCH_PORT: Final = 29500


def target_port(workspace: Workspace) -> int | None:
    """The container port that answers HTTP; None where a template declares no port."""
    assert workspace.inference is not None
    template = workspace.inference.template
    return MODEL_PORT if template is None else http_port(template)


def service_digest(workspace: Workspace) -> str:
    """The hash of what the Service should be; "" when there should be none."""
    port = target_port(workspace)
    return "" if port is None else digest(port, _type(workspace), _is_preset(workspace))


def service(workspace: Workspace) -> dict[str, Any]:
    """The Service of a Workspace that has a target port."""
    ports = [
        {"name": "http", "port": HTTP_PORT, "protocol": "TCP", "targetPort": target_port(workspace)}
    ]
    if _is_preset(workspace) and _type(workspace) == "ClusterIP":
        ports.append(
            {"name": "torch", "port": TORCH_PORT, "protocol": "TCP", "targetPort": TORCH_PORT}
        )
    return {
        "apiVersion": Service.RESOURCE.api_version,
        "kind": Service.RESOURCE.kind,
        "metadata": child_metadata(workspace, service_digest(workspace)),
        "spec": {
            "type": _type(workspace),
            "ports": ports,
            "selector": {labels.WORKSPACE: workspace.metadata.name},
        },
    }


def _type(workspace: Workspace) -> str:
    wished = workspace.metadata.annotations.get(labels.ENABLE_LOAD_BALANCER) == "True"
    return "LoadBalancer" if wished else "ClusterIP"


def _is_preset(workspace: Workspace) -> bool:
    return workspace.inference is not None and workspace.inference.preset is not None
