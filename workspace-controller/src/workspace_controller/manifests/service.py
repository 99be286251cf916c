"""The Services of a model: the one that clients use, and the one by which its pods find each other.

Invariant: clients are never sent to a pod that is still loading, and a load balancer exposes
nothing but the HTTP port.
"""

from typing import Any, Final

from gpuapis import labels
from gpuapis.core import Service
from gpuapis.workspace import Workspace
from workspace_controller.manifests.digest import digest
from workspace_controller.manifests.model import Model
from workspace_controller.manifests.ownership import child_metadata
from workspace_controller.manifests.template_pod import MODEL_PORT, http_port

HTTP_PORT: Final = 80
TORCH_PORT: Final = 29500
HEADLESS: Final = "-headless"


def headless_name(workspace: str) -> str:
    """The name of the Service that gives each pod of a spread model its DNS name."""
    return workspace + HEADLESS


def target_port(workspace: Workspace) -> int | None:
    """The container port that answers HTTP; None where a template declares no port."""
    assert workspace.inference is not None
    template = workspace.inference.template
    return MODEL_PORT if template is None else http_port(template)


def load_balanced(workspace: Workspace) -> bool:
    """Whether the model is to be reached from outside the cluster."""
    return workspace.metadata.annotations.get(labels.ENABLE_LOAD_BALANCER) == "True"


def service_digest(workspace: Workspace, model: Model) -> str:
    """The hash of what the Service should be; "" when there should be none."""
    port = target_port(workspace)
    if port is None:
        return ""
    more = ["leader"] if model.spread else []
    return digest(port, _type(workspace), _is_preset(workspace), *more)


def service(workspace: Workspace, model: Model) -> dict[str, Any]:
    """The Service of a Workspace that has a target port."""
    name = workspace.metadata.name
    ports = [
        {"name": "http", "port": HTTP_PORT, "protocol": "TCP", "targetPort": target_port(workspace)}
    ]
    if _is_preset(workspace) and not load_balanced(workspace):
        ports.append(
            {"name": "torch", "port": TORCH_PORT, "protocol": "TCP", "targetPort": TORCH_PORT}
        )
    # Of the pods that share one copy of a model, the first answers for all.
    leader = {"statefulset.kubernetes.io/pod-name": f"{name}-0"} if model.spread else {}
    return {
        "apiVersion": Service.RESOURCE.api_version,
        "kind": Service.RESOURCE.kind,
        "metadata": child_metadata(workspace, service_digest(workspace, model)),
        "spec": {
            "type": _type(workspace),
            "ports": ports,
            "selector": {labels.WORKSPACE: name, **leader},
        },
    }


def headless_digest(model: Model) -> str:
    """The hash of what the headless Service should be; "" when there should be none."""
    return digest("headless") if model.spread else ""


def headless_service(workspace: Workspace, model: Model) -> dict[str, Any]:
    """The Service that names each pod of a spread model, ready or not: they meet to become so."""
    metadata = child_metadata(workspace, headless_digest(model))
    return {
        "apiVersion": Service.RESOURCE.api_version,
        "kind": Service.RESOURCE.kind,
        "metadata": metadata | {"name": headless_name(workspace.metadata.name)},
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {labels.WORKSPACE: workspace.metadata.name},
        },
    }


def _type(workspace: Workspace) -> str:
    return "LoadBalancer" if load_balanced(workspace) else "ClusterIP"


def _is_preset(workspace: Workspace) -> bool:
    return workspace.inference is not None and workspace.inference.preset is not None
