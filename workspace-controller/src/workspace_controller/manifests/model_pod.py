"""The pod that serves a preset with our model server.

Invariant: it runs under the restricted Pod Security standard, and the same Workspace, Model and
source make the same pod to the last byte.
"""

from typing import Any, Final

from gpuapis import labels
from gpuapis.workspace import InferenceSpec, PresetOptions, PresetSpec, Workspace
from workspace_controller.manifests import adapters, secret_files
from workspace_controller.manifests.hardening import container_security, pod_security
from workspace_controller.manifests.model import Model, ModelSource
from workspace_controller.manifests.ownership import placement
from workspace_controller.manifests.service import headless_name
from workspace_controller.manifests.template_pod import MODEL_PORT
from workspace_controller.presets.catalog import Engine, Preset

WEIGHTS: Final = "/workspace/weights"
CONFIG_FOLDER: Final = "/mnt/config"
CONFIG_KEY: Final = "inference_config.yaml"
STARTUP_PERIOD: Final = 5
SCRATCH: Final = "/tmp"  # noqa: S108  (the container's own, an emptyDir)
SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108  (where torch looks for it)
LEAVE_SECONDS: Final = 5
"""A pod still gets requests until every proxy has heard that it goes; only then may it refuse."""
DRAIN_SECONDS: Final = 80
"""The server finishes what it is answering for up to 60 s after SIGTERM."""
ENGINES: Final[tuple[Engine, ...]] = ("transformers", "vllm")


def model_pod(
    workspace: Workspace, model: Model, source: ModelSource
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The metadata and the spec of the pod template."""
    options = _options(workspace)
    spec: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": LEAVE_SECONDS + DRAIN_SECONDS,
        "securityContext": pod_security(),
        **placement(workspace),
    }
    if options.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in options.image_pull_secrets]
    # Whatever the count: a change of it scales the Deployment and must not build other pods.
    spec["topologySpreadConstraints"] = [_one_to_a_node(workspace, model)]
    shell = _shell(workspace, source)
    pullers = adapters.pullers(model.adapters, shell, source.insecure_registries)
    if pullers:
        spec["initContainers"] = pullers
    spec["containers"] = [_server(workspace, model, shell)]
    spec["volumes"] = _volumes(workspace, model)
    metadata: dict[str, Any] = {"labels": {labels.WORKSPACE: workspace.metadata.name}}
    if model.config:  # the ConfigMap keeps its name: nothing else of the pod tells an edit
        metadata["annotations"] = {labels.SETTINGS_HASH: model.config}
    return metadata, spec


def wished_engine(workspace: Workspace) -> Engine | None:
    """The engine that the Workspace's annotation asks for; None leaves the choice to us."""
    wish = workspace.metadata.annotations.get(labels.RUNTIME)
    return next((engine for engine in ENGINES if engine == wish), None)


def _engine(workspace: Workspace, model: Model) -> Engine | None:
    """The engine that the server is told; None leaves the choice to the runtime."""
    if model.spread:
        return "vllm"  # the only one that spans nodes
    return wished_engine(workspace) or model.engine


def _shell(workspace: Workspace, source: ModelSource) -> dict[str, Any]:
    """What all containers of the pod share: the runtime's image and how it runs."""
    tag = workspace.metadata.annotations.get(labels.UPGRADE_TO_VERSION, source.tag)
    environment = [{"name": "HF_HOME", "value": f"{SCRATCH}/hf"}]
    if source.hub:
        environment.append({"name": "HF_ENDPOINT", "value": source.hub})
    return {
        "image": _options(workspace).image or f"{source.registry}/kaito-base:{tag}",
        "imagePullPolicy": "IfNotPresent",
        "env": environment,
        "securityContext": container_security(),
    }


def _server(workspace: Workspace, model: Model, shell: dict[str, Any]) -> dict[str, Any]:
    assert model.preset is not None
    gpus = {labels.GPU_RESOURCE: str(model.gpus)}
    return {
        "name": workspace.metadata.name,
        **shell,
        "command": ["python3", "-m", "runtimes.serving"],
        "args": _arguments(workspace, model, model.preset),
        "env": [*shell["env"], *_place(model)],
        "ports": [{"name": "http", "containerPort": MODEL_PORT, "protocol": "TCP"}],
        "resources": {"requests": dict(gpus), "limits": dict(gpus)},
        **_probes(model.preset),
        "lifecycle": {"preStop": {"sleep": {"seconds": LEAVE_SECONDS}}},
        # A crash then ends with the server's last lines, which the Workspace's condition repeats.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": _mounts(workspace, model),
    }


def _place(model: Model) -> list[dict[str, Any]]:
    """Which of several pods this is, for a model that is spread."""
    if not model.spread:
        return []
    field = {"fieldPath": "metadata.labels['apps.kubernetes.io/pod-index']"}
    return [{"name": "POD_INDEX", "valueFrom": {"fieldRef": field}}]


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


def _arguments(workspace: Workspace, model: Model, preset: Preset) -> list[str]:
    arguments = {
        "device_map": "auto",
        "download_dir": WEIGHTS,
        "port": str(MODEL_PORT),
        "pretrained_model_name_or_path": preset.model,
        "served_model_name": preset.name,
        "torch_dtype": preset.dtype,
    }
    if _private(workspace):
        arguments["pretrained_model_name_or_path"] = WEIGHTS
    elif preset.revision is not None:
        arguments["revision"] = preset.revision
    if _options(workspace).model_access_secret is not None:
        arguments["hub_token_file"] = secret_files.HUB_FILE
    if model.config:
        arguments["config_file"] = f"{CONFIG_FOLDER}/{CONFIG_KEY}"
    engine = _engine(workspace, model)
    if engine is not None:
        arguments["engine"] = engine
    if model.memory_percent is not None:
        arguments["gpu_memory_utilization"] = f"{model.memory_percent / 100:.2f}"
    if model.spread:
        name, namespace = workspace.metadata.name, workspace.metadata.namespace
        arguments["nodes"] = str(model.nodes)
        arguments["leader_address"] = (
            f"{name}-0.{headless_name(name)}.{namespace}.svc.cluster.local"
        )
    flags = [f"--{name}={value}" for name, value in arguments.items()]
    flags += adapters.server_arguments(model.adapters)
    if not _private(workspace):
        flags.append("--allow_remote_files")
    return sorted(flags)


def _mounts(workspace: Workspace, model: Model) -> list[dict[str, Any]]:
    paths = {"tmp": SCRATCH, "dshm": SHARED_MEMORY}
    if not _private(workspace):
        paths["weights"] = WEIGHTS
    mounts: list[dict[str, Any]] = [
        {"name": name, "mountPath": path} for name, path in paths.items()
    ]
    if model.config:
        mounts.append({"name": "config", "mountPath": CONFIG_FOLDER, "readOnly": True})
    if _options(workspace).model_access_secret is not None:
        mounts.append(secret_files.hub_token_mount())
    mounts += adapters.mounts(model.adapters)
    return sorted(mounts, key=lambda mount: str(mount["name"]))


def _volumes(workspace: Workspace, model: Model) -> list[dict[str, Any]]:
    volumes: list[dict[str, Any]] = [
        {"name": "dshm", "emptyDir": {"medium": "Memory"}},
        {"name": "tmp", "emptyDir": {}},
    ]
    if not _private(workspace):
        volumes.append({"name": "weights", "emptyDir": {}})
    if model.config:
        item = {"key": CONFIG_KEY, "path": CONFIG_KEY}
        named = {"name": _inference(workspace).config, "items": [item]}
        volumes.append({"name": "config", "configMap": named})
    secret = _options(workspace).model_access_secret
    if secret is not None:
        volumes.append(secret_files.hub_token_volume(secret))
    volumes += adapters.volumes(model.adapters)
    volumes += secret_files.pull_secret_volumes(adapters.pull_secrets(model.adapters))
    return volumes


def _one_to_a_node(workspace: Workspace, model: Model) -> dict[str, Any]:
    """Copies had better be apart; the parts of one copy have to be."""
    return {
        "maxSkew": 1,
        "topologyKey": labels.HOSTNAME,
        "whenUnsatisfiable": "DoNotSchedule" if model.spread else "ScheduleAnyway",
        "labelSelector": {"matchLabels": {labels.WORKSPACE: workspace.metadata.name}},
    }


def _inference(workspace: Workspace) -> InferenceSpec:
    assert workspace.inference is not None
    return workspace.inference


def _preset(workspace: Workspace) -> PresetSpec:
    preset = _inference(workspace).preset
    assert preset is not None
    return preset


def _options(workspace: Workspace) -> PresetOptions:
    return _preset(workspace).preset_options


def _private(workspace: Workspace) -> bool:
    """Whether image and weights are the user's."""
    return _preset(workspace).access_mode == "private"
