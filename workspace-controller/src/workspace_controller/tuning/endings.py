"""Turns the end of a run's pods into a reason, a sentence and what a person can do about it.

Invariant: every way in which a pod can end has a reason of its own kind, and its sentence names the
field or the object that helps.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

from gpuapis import labels
from gpuapis.core import ContainerState, ContainerStatus, Pod
from gpuapis.workspace import Workspace
from workspace_controller.tuning.facts import Ending
from workspace_controller.tuning.last_words import last_words
from workspace_controller.workspaces import reasons

CONFIG, DATA, MEMORY, PUSH, KILLED, TOLD_TO_GO = 2, 3, 4, 5, 137, 143
LONGEST: Final = 1500
"""Characters of a process's own words that are repeated."""
AGAIN: Final = (
    f"To run again, change tuning or give annotation {labels.TUNING_RUN} another value, such as "
    "`kubectl annotate --overwrite workspace"
)


def ending(pods: Iterable[Pod], workspace: Workspace) -> Ending | None:
    """How the pod that ended last did so; None while none has ended."""
    ended = [pod for pod in pods if pod.status.phase in ("Succeeded", "Failed")]
    if not ended:
        return None
    return _of_pod(max(ended, key=_ended_at), workspace)


def began(pods: Iterable[Pod], workspace: Workspace) -> datetime | None:
    """When the first training process of the run began; None before."""
    states = [
        state
        for status in _trainers(pods, workspace)
        for state in (status.state.running, status.state.terminated)
        if state is not None
    ]
    moments = [state.started_at for state in states if state.started_at is not None]
    return min(moments, default=None)


def at_work(pods: Iterable[Pod], workspace: Workspace) -> bool:
    """Whether a training process runs now."""
    return any(status.state.running is not None for status in _trainers(pods, workspace))


def _trainers(pods: Iterable[Pod], workspace: Workspace) -> Iterable[ContainerStatus]:
    return (
        status
        for pod in pods
        for status in pod.status.container_statuses
        if status.name == workspace.metadata.name
    )


def _ended_at(pod: Pod) -> tuple[datetime, str]:
    statuses = (*pod.status.init_container_statuses, *pod.status.container_statuses)
    moments = [
        status.state.terminated.finished_at
        for status in statuses
        if status.state.terminated is not None and status.state.terminated.finished_at is not None
    ]
    first = datetime.min.replace(tzinfo=UTC)
    return max(moments, default=pod.metadata.creation_timestamp or first), pod.metadata.name


def _of_pod(pod: Pod, workspace: Workspace) -> Ending:
    trainer = _terminated(pod.status.container_statuses, workspace.metadata.name)
    if trainer is not None and pod.status.reason != "Evicted":
        return _of_training(trainer, workspace)
    fetched = _failed_fetch(pod.status.init_container_statuses)
    if fetched is not None:
        return _of_fetch(fetched, workspace)
    said = " ".join(part for part in (pod.status.reason, pod.status.message) if part)
    if pod.status.reason == "Evicted":
        return Ending(reasons.POD_EVICTED, f"pod {pod.metadata.name}: {said}. {_again(workspace)}")
    return Ending(
        reasons.TUNING_FAILED,
        f"pod {pod.metadata.name} ended without a word ({said or 'no reason given'}). "
        f"{_again(workspace)}",
    )


def _of_training(state: ContainerState, workspace: Workspace) -> Ending:
    words = last_words(state.message)
    if state.exit_code == 0:
        return Ending("", "", words.progress, words.image or "", words.digest or "")
    if state.reason == "OOMKilled":
        reason, what = reasons.OOM_KILLED, _HOST_MEMORY
    else:
        reason, what = _CODES.get(state.exit_code, (reasons.TUNING_FAILED, _UNKNOWN))
    said = (words.error or "").strip()[-LONGEST:]
    cause = said or f"exit code {state.exit_code}, without a word"
    message = what.format(
        cause=cause if cause.endswith((".", "!", "?")) else f"{cause}.",
        **_names(workspace),
    )
    return Ending(reason, message, words.progress)


def _of_fetch(status: ContainerStatus, workspace: Workspace) -> Ending:
    assert status.state.terminated is not None
    said = status.state.terminated.message.strip()[-LONGEST:]
    cause = said or f"exit code {status.state.terminated.exit_code}, without a word"
    message = (
        f"the training data could not be fetched by {status.name}: {cause} Check "
        f"tuning.input.image and tuning.input.imagePullSecrets. {_again(workspace)}"
    )
    return Ending(reasons.TUNING_DATA_NOT_FETCHED, message)


def _terminated(statuses: Sequence[ContainerStatus], name: str) -> ContainerState | None:
    return next((each.state.terminated for each in statuses if each.name == name), None)


def _failed_fetch(statuses: Iterable[ContainerStatus]) -> ContainerStatus | None:
    return next(
        (
            each
            for each in statuses
            if each.state.terminated is not None and each.state.terminated.exit_code
        ),
        None,
    )


_UNKNOWN: Final = (
    "the training failed: {cause} Its log says more, while the pod is there: kubectl logs -n "
    "{namespace} job/{name}. {again}"
)
_HOST_MEMORY: Final = (
    "the machine ran out of main memory: {cause} Lower dataloader_num_workers or the size of the "
    "data, or take a machine with more memory: resource.instanceType cannot be edited, so delete "
    "this Workspace and apply it anew."
)
_BAD_CONFIG: Final = "the training configuration cannot be used: {cause} {mend_config}"
_BAD_DATA: Final = (
    "the training data cannot be used: {cause} Mend the data or tuning.input. {again}"
)
_GPU_MEMORY: Final = (
    "the GPUs ran out of memory: {cause} In the training configuration, lower "
    "TrainingArguments.per_device_train_batch_size or max_length{qlora}; or take a size with more "
    "GPU memory: resource.instanceType cannot be edited, so delete this Workspace and apply it "
    "anew. {mend_config}"
)
_NOT_PUSHED: Final = (
    "the model was trained, but its adapter could not be pushed to {image}: {cause} Check "
    "tuning.output.image, and that Secret {secret} may push there. {again}"
)
_KILLED: Final = "the training was killed from outside: {cause} {again}"
_TOLD_TO_GO: Final = "the training was told to stop and saved a checkpoint: {cause} {again}"
_CODES: Final[dict[int, tuple[str, str]]] = {
    CONFIG: (reasons.TUNING_CONFIG_UNUSABLE, _BAD_CONFIG),
    DATA: (reasons.TUNING_DATA_UNUSABLE, _BAD_DATA),
    MEMORY: (reasons.TUNING_OUT_OF_MEMORY, _GPU_MEMORY),
    PUSH: (reasons.TUNING_PUSH_FAILED, _NOT_PUSHED),
    KILLED: (reasons.TUNING_INTERRUPTED, _KILLED),
    TOLD_TO_GO: (reasons.TUNING_INTERRUPTED, _TOLD_TO_GO),
}


def _names(workspace: Workspace) -> dict[str, str]:
    tuning = workspace.tuning
    assert tuning is not None
    quantized = (tuning.method or "").lower() == "qlora"
    mend = f"Edit ConfigMap {tuning.config}: the run then starts anew by itself."
    own = "Give a training configuration of your own in tuning.config: the run then starts anew."
    return {
        "again": _again(workspace),
        "image": tuning.output.image or "the registry",
        "mend_config": mend if tuning.config else own,
        "name": workspace.metadata.name,
        "namespace": workspace.metadata.namespace,
        "qlora": "" if quantized else ", or use tuning.method qlora in a new Workspace",
        "secret": tuning.output.image_push_secret or "(none is named)",
    }


def _again(workspace: Workspace) -> str:
    name, namespace = workspace.metadata.name, workspace.metadata.namespace
    return f"{AGAIN} {name} -n {namespace} {labels.TUNING_RUN}=2`."
