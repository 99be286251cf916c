"""The pod that serves a preset with our model server.

Invariant: it runs under the restricted Pod Security standard: no root, no capabilities, a read-only
root filesystem.
"""

from dataclasses import dataclass
from typing import Any, Final

from gpuapis import labels
from gpuapis.workspace import Workspace
from workspace_controller.manifests.ownership import TOLERATIONS, node_terms
from workspace_controller.manifests.service import MODEL_PORT
from workspace_controller.presets.catalog import Preset

WEIGHTS: Final = "/workspace/weights"
HUB_FOLDER: Final = "/run/hub-token"
HUB_FILE: Final = "HF_TOKEN"
USER: Final = 1000
STARTUP_PERIOD: Final = 5
SCRATCH: Final = "/tmp"  # noqa: S108  (the container's own, an emptyDir)
SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108  (where torch looks for it)
LEAVE_SECONDS: Final = 5
"""A pod still gets requests until every proxy has heard that it goes; only then may it refuse."""
DRAIN_SECONDS: Final = 80
"""The server finishes what it is answering for up to 60 s after SIGTERM."""


@dataclass(frozen=True)
class ModelSource:
    """Where images and weights come from; set once for the whole installation."""

    registry: str
    """The registry and path that hold the runtime image, without a trailing slash."""
    tag: str
    hub: str = ""
    """Address of the model hub; "" for the runtime's default."""


def model_pod(
    workspace: Workspace, preset: Preset, source: ModelSource
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The metadata and the spec of the pod template."""
    assert workspace.inference is not None
    assert workspace.inference.preset is not None
    options = workspace.inference.preset.preset_options
    spec: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": LEAVE_SECONDS + DRAIN_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": node_terms(workspace)
                }
            }
        },
        "tolerations": [dict(toleration) for toleration in TOLERATIONS],
    }
    if options.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in options.image_pull_secrets]
    # Whatever the count: a change of it scales the Deployment and must not build other pods.
    spec["topologySpreadConstraints"] = [_one_to_a_node(workspace)]
    spec["containers"] = [_server(workspace, preset, source)]
    spec["volumes"] = _volumes(workspace)
    return {"labels": {labels.WORKSPACE: workspace.metadata.name}}, spec


def _server(workspace: Workspace, preset: Preset, source: ModelSource) -> dict[str, Any]:
    assert workspace.inference is not None
    assert workspace.inference.preset is not None
    mounts = {"tmp": SCRATCH, "dshm": SHARED_MEMORY}
    if not _private(workspace):
        mounts["weights"] = WEIGHTS
    if _token_secret(workspace) is not None:
        mounts["hub-token"] = HUB_FOLDER
    image = workspace.inference.preset.preset_options.image
    return {
        "name": workspace.metadata.name,
        "image": image or f"{source.registry}/kaito-base:{source.tag}",
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-m", "runtimes.serving"],
        "args": _arguments(workspace, preset),
        "env": _environment(source),
        "ports": [{"name": "http", "containerPort": MODEL_PORT, "protocol": "TCP"}],
        "resources": {
            "requests": {labels.GPU_RESOURCE: str(preset.gpus)},
            "limits": {labels.GPU_RESOURCE: str(preset.gpus)},
        },
        **_probes(preset),
        "lifecycle": {"preStop": {"sleep": {"seconds": LEAVE_SECONDS}}},
        # A crash then ends with the server's last lines, which the Workspace's condition repeats.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": name, "mountPath": path} for name, path in sorted(mounts.items())
        ],
    }


def _probes(preset: Preset) -> dict[str, Any]:
    """Loading may take its whole time; a server that runs is asked more sharply."""
    tries = int(preset.readiness_timeout.total_seconds()) // STARTUP_PERIOD
    return {
        "startupProbe": _probe("/healthz", period=STARTUP_PERIOD, tries=tries),
        "livenessProbe": _probe("/health", period=10, tries=6),
        "readinessProbe": _probe("/ready", period=5, tries=3),
    }


def _probe(path: str, *, period: int, tries: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": tries,
    }


def _arguments(workspace: Workspace, preset: Preset) -> list[str]:
    arguments = {
        "device_map": "auto",
        "download_dir": WEIGHTS,
        "port": str(MODEL_PORT),
        "pretrained_model_name_or_path": preset.model,
        "revision": preset.revision,
        "served_model_name": preset.name,
        "torch_dtype": preset.dtype,
    }
    if _token_secret(workspace) is not None:
        arguments["hub_token_file"] = f"{HUB_FOLDER}/{HUB_FILE}"
    if _private(workspace):
        arguments["pretrained_model_name_or_path"] = WEIGHTS
        del arguments["revision"]
    flags = [f"--{name}={value}" for name, value in arguments.items()]
    if not _private(workspace):
        flags.append("--allow_remote_files")
    return sorted(flags)


def _environment(source: ModelSource) -> list[dict[str, Any]]:
    environment: list[dict[str, Any]] = [{"name": "HF_HOME", "value": f"{SCRATCH}/hf"}]
    if source.hub:
        environment.append({"name": "HF_ENDPOINT", "value": source.hub})
    return environment


def _volumes(workspace: Workspace) -> list[dict[str, Any]]:
    volumes: list[dict[str, Any]] = [
        {"name": "dshm", "emptyDir": {"medium": "Memory"}},
        {"name": "tmp", "emptyDir": {}},
    ]
    if not _private(workspace):
        volumes.append({"name": "weights", "emptyDir": {}})
    secret = _token_secret(workspace)
    if secret is not None:
        item = {"key": HUB_FILE, "path": HUB_FILE}
        volumes.append({"name": "hub-token", "secret": {"secretName": secret, "items": [item]}})
    return volumes


def _one_to_a_node(workspace: Workspace) -> dict[str, Any]:
    return {
        "maxSkew": 1,
        "topologyKey": labels.HOSTNAME,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {labels.WORKSPACE: workspace.metadata.name}},
    }


def _private(workspace: Workspace) -> bool:
    """Whether image and weights are the user's."""
    assert workspace.inference is not None
    assert workspace.inference.preset is not None
    return workspace.inference.preset.access_mode == "private"


def _token_secret(workspace: Workspace) -> str | None:
    """The Secret whose token opens a gated model; as a file, for an environment is seen by many."""
    assert workspace.inference is not None
    assert workspace.inference.preset is not None
    return workspace.inference.preset.preset_options.model_access_secret
