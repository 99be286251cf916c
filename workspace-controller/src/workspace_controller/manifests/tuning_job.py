"""The Job that fine-tunes a preset: one container, whose exit code is the Job's result.

Invariant: what cannot go better the second time is not tried again, and a pod that is moved by the
cluster does not count as a failure of the training.
"""

from dataclasses import dataclass
from typing import Any, Final

from gpuapis import labels
from gpuapis.core import Job
from gpuapis.workspace import PresetSpec, TuningSpec, Workspace
from workspace_controller.manifests.digest import digest
from workspace_controller.manifests.hardening import container_security, pod_security
from workspace_controller.manifests.model import ModelSource
from workspace_controller.manifests.model_pod import SCRATCH, SHARED_MEMORY, WEIGHTS
from workspace_controller.manifests.ownership import child_metadata, placement
from workspace_controller.manifests.secret_files import (
    HUB_FILE,
    hub_token_mount,
    hub_token_volume,
    pull_secret_file,
    pull_secret_mounts,
    pull_secret_volumes,
)
from workspace_controller.manifests.template_pod import MODEL_PORT
from workspace_controller.manifests.training_config import copy_name, method_of
from workspace_controller.presets.catalog import Preset
from workspace_controller.rules.training_config import KEY

CONFIG: Final = "/mnt/config"
DATA: Final = "/mnt/data"
RETRIES: Final = 2
PULLER: Final = "data-puller"
EXIT_CONFIG: Final = 2
EXIT_DATA: Final = 3
EXIT_GPU_MEMORY: Final = 4
EXIT_PUSH: Final = 5
"""A push is tried again by the runtime itself; another pod would have to train anew first."""
CHECKPOINT_SECONDS: Final = 180
"""A pod that is told to go finishes its step and saves a checkpoint first."""


@dataclass(frozen=True)
class Run:
    """One run of a tuning Workspace."""

    key: str
    """The hash of what was asked for and of the training configuration."""
    output: str
    """The folder of results, as the training configuration names it."""
    gpus: int
    """GPUs of the node; the run uses them all."""
    deadline: int = 0
    """Seconds after which the Job is ended; 0 for as long as it takes."""


def asked_digest(workspace: Workspace) -> str:
    """The hash of what the user wrote about the run, the training configuration's text apart.

    Defaults are left out: one that a later CRD adds must not look like an edit.
    """
    assert workspace.tuning is not None
    asked = workspace.tuning.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    asked["method"] = method_of(workspace)
    return digest(asked, workspace.metadata.annotations.get(labels.TUNING_RUN, ""))


def tuning_job(
    workspace: Workspace, preset: Preset, run: Run, source: ModelSource
) -> dict[str, Any]:
    """The Job of one run."""
    deadline = {"activeDeadlineSeconds": run.deadline} if run.deadline else {}
    return {
        "apiVersion": Job.RESOURCE.api_version,
        "kind": Job.RESOURCE.kind,
        "metadata": child_metadata(workspace, run.key),
        "spec": {
            "completions": 1,
            "parallelism": 1,
            "backoffLimit": RETRIES,
            **deadline,
            "podFailurePolicy": {"rules": _failure_rules(workspace)},
            "template": {
                "metadata": {
                    "labels": {labels.WORKSPACE: workspace.metadata.name},
                    # A node may be consolidated under a server, which another pod replaces; hours
                    # of training are lost.
                    "annotations": {labels.DO_NOT_DISRUPT: "true"},
                },
                "spec": _pod(workspace, preset, run, source),
            },
        },
    }


def _failure_rules(workspace: Workspace) -> list[dict[str, Any]]:
    final = {
        "containerName": workspace.metadata.name,
        "operator": "In",
        "values": [EXIT_CONFIG, EXIT_DATA, EXIT_GPU_MEMORY, EXIT_PUSH],
    }
    disrupted = {"type": "DisruptionTarget", "status": "True"}
    return [
        {"action": "Ignore", "onPodConditions": [disrupted]},
        {"action": "FailJob", "onExitCodes": final},
    ]


def _pod(workspace: Workspace, preset: Preset, run: Run, source: ModelSource) -> dict[str, Any]:
    tuning, model = _asked(workspace)
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": CHECKPOINT_SECONDS,
        "securityContext": pod_security(),
        **placement(workspace),
    }
    pull = model.preset_options.image_pull_secrets
    if pull:
        spec["imagePullSecrets"] = [{"name": name} for name in pull]
    shell = {
        "image": model.preset_options.image or f"{source.registry}/kaito-base:{source.tag}",
        "imagePullPolicy": "IfNotPresent",
        "env": _environment(source),
        "securityContext": container_security(),
    }
    if tuning.input.image is not None:
        spec["initContainers"] = [_data_puller(tuning, shell, source)]
    spec["containers"] = [_trainer(workspace, preset, run, source, shell)]
    spec["volumes"] = _volumes(workspace)
    return spec


def _data_puller(tuning: TuningSpec, shell: dict[str, Any], source: ModelSource) -> dict[str, Any]:
    secrets = tuning.input.image_pull_secrets
    return {
        "name": PULLER,
        **shell,
        "command": [
            *("python3", "-m", "runtimes.oci", "pull", tuning.input.image, DATA),
            *(f"--docker-config={pull_secret_file(name)}" for name in secrets),
            *(f"--insecure-registry={host}" for host in source.insecure_registries),
        ],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "data", "mountPath": DATA},
            *pull_secret_mounts(secrets, _secrets(tuning)),
            {"name": "tmp", "mountPath": SCRATCH},
        ],
    }


def _trainer(
    workspace: Workspace,
    preset: Preset,
    run: Run,
    source: ModelSource,
    shell: dict[str, Any],
) -> dict[str, Any]:
    gpus = {labels.GPU_RESOURCE: str(run.gpus)}
    return {
        "name": workspace.metadata.name,
        **shell,
        "command": ["python3", "-m", "runtimes.tuning"],
        "args": _arguments(workspace, preset, run, source),
        "ports": [{"name": "http", "containerPort": MODEL_PORT, "protocol": "TCP"}],
        "resources": {"requests": dict(gpus), "limits": dict(gpus)},
        "volumeMounts": _mounts(workspace, run),
    }


def _arguments(workspace: Workspace, preset: Preset, run: Run, source: ModelSource) -> list[str]:
    """Sorted by name; the order of the data's URLs is the user's."""
    tuning, model = _asked(workspace)
    public = model.access_mode == "public"
    flags: list[tuple[str, str]] = [
        ("base_model_name", preset.name),
        ("config_file", f"{CONFIG}/{KEY}"),
        ("data_dir", DATA),
        ("method", method_of(workspace)),
        ("output_dir", run.output),
        ("port", str(MODEL_PORT)),
        ("pretrained_model_name_or_path", preset.model if public else WEIGHTS),
        *(("data_url", url) for url in tuning.input.urls),
        *(("docker-config", pull_secret_file(name)) for name in _push_secrets(tuning)),
        *(("insecure-registry", host) for host in source.insecure_registries),
    ]
    if public:
        flags.append(("download_dir", WEIGHTS))
    if public and preset.revision is not None:
        flags.append(("revision", preset.revision))
    if tuning.output.image is not None:
        flags.append(("output_image", tuning.output.image))
    if model.preset_options.model_access_secret is not None:
        flags.append(("hub_token_file", HUB_FILE))
    words = [(name, f"--{name}={value}") for name, value in flags]
    words += [("allow_remote_files", "--allow_remote_files")] if public else []
    if tuning.input.urls and source.private_data:
        words.append(("allow_local_addresses", "--allow_local_addresses"))
    return [word for _, word in sorted(words, key=lambda each: each[0])]


def _environment(source: ModelSource) -> list[dict[str, Any]]:
    environment = {
        "HF_HOME": f"{SCRATCH}/hf",
        # Batches of changing length otherwise leave holes that count as used memory.
        "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
    }
    if source.hub:
        environment["HF_ENDPOINT"] = source.hub
    return [{"name": name, "value": value} for name, value in sorted(environment.items())]


def _mounts(workspace: Workspace, run: Run) -> list[dict[str, Any]]:
    tuning, model = _asked(workspace)
    # Files from URLs are fetched by the trainer itself; what others have put there is theirs.
    data = {"name": "data", "mountPath": DATA} | ({} if tuning.input.urls else {"readOnly": True})
    mounts: list[dict[str, Any]] = [
        {"name": "config", "mountPath": CONFIG, "readOnly": True},
        data,
        {"name": "dshm", "mountPath": SHARED_MEMORY},
        {"name": "results", "mountPath": run.output},
        {"name": "tmp", "mountPath": SCRATCH},
    ]
    if model.access_mode == "public":
        mounts.append({"name": "weights", "mountPath": WEIGHTS})
    if model.preset_options.model_access_secret is not None:
        mounts.append(hub_token_mount())
    return mounts + pull_secret_mounts(_push_secrets(tuning), _secrets(tuning))


def _volumes(workspace: Workspace) -> list[dict[str, Any]]:
    tuning, model = _asked(workspace)
    config = tuning.config or copy_name(workspace)
    items = [{"key": KEY, "path": KEY}]
    volumes: list[dict[str, Any]] = [
        {"name": "config", "configMap": {"name": config, "items": items}},
        {"name": "data", **(tuning.input.volume_source or {"emptyDir": {}})},
        {"name": "dshm", "emptyDir": {"medium": "Memory"}},
        {"name": "results", **(tuning.output.volume_source or {"emptyDir": {}})},
        {"name": "tmp", "emptyDir": {}},
    ]
    if model.access_mode == "public":
        volumes.append({"name": "weights", "emptyDir": {}})
    token = model.preset_options.model_access_secret
    if token is not None:
        volumes.append(hub_token_volume(token))
    return volumes + pull_secret_volumes(_secrets(tuning))


def _push_secrets(tuning: TuningSpec) -> tuple[str, ...]:
    secret = tuning.output.image_push_secret
    return (secret,) if secret is not None and tuning.output.image is not None else ()


def _secrets(tuning: TuningSpec) -> tuple[str, ...]:
    """The Secrets of all registries that the run meets, once each."""
    pull = tuning.input.image_pull_secrets if tuning.input.image is not None else ()
    return tuple(sorted({*pull, *_push_secrets(tuning)}))


def _asked(workspace: Workspace) -> tuple[TuningSpec, PresetSpec]:
    assert workspace.tuning is not None
    assert workspace.tuning.preset is not None
    return workspace.tuning, workspace.tuning.preset
