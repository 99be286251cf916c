"""Reads what pods say: what is wrong with the worst one, or what they are busy with.

Invariant: the worst trouble speaks first, in an order that puts causes before their symptoms; each
says in which pod and container it is, and what to do about it.
"""

from collections.abc import Iterable
from typing import Final

from gpuapis.core import ContainerState, ContainerStatus, Pod
from workspace_controller.manifests.adapters import PULLER
from workspace_controller.workspaces import reasons
from workspace_controller.workspaces.facts import PodTrouble

IMAGE_REASONS: Final = frozenset(
    {
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImageInspectError",
        "ImagePullBackOff",
        "InvalidImageName",
        "RegistryUnavailable",
    }
)
START_REASONS: Final = frozenset(
    {
        "CreateContainerConfigError",
        "CreateContainerError",
        "PostStartHookError",
        "PreCreateHookError",
        "PreStartHookError",
        "RunContainerError",
    }
)
SEVERITY: Final = (
    reasons.OOM_KILLED,
    reasons.IMAGE_PULL,
    reasons.CONTAINER_START,
    reasons.ADAPTER_PULL,
    reasons.VOLUME_MOUNT,
    reasons.CRASH_LOOP,
    reasons.POD_EVICTED,
    reasons.POD_FAILED,
    reasons.UNSCHEDULABLE,
)
UNBOUND: Final = (
    "A volume claim that the Workspace names must exist in its namespace and be bound: kubectl get "
    "persistentvolumeclaims."
)
LOG_LIMIT: Final = 600
SIGKILL: Final = 137
REMEDIES: Final = {
    reasons.IMAGE_PULL: (
        "Check the image's name and tag; a private registry needs a Secret of this namespace in "
        "imagePullSecrets."
    ),
    reasons.CONTAINER_START: "What it names must exist in the Workspace's namespace.",
    reasons.UNSCHEDULABLE: (
        "The Workspace's node may be cordoned, or its GPU taken by another pod: kubectl describe "
        "node."
    ),
}


def troubles(pods: Iterable[Pod], unstarted: Iterable[PodTrouble] = ()) -> tuple[PodTrouble, ...]:
    """What is wrong with the pods that are not on their way out, worst first.

    Args:
        pods: the Workspace's pods.
        unstarted: what is known beside their own words.
    """
    found = [
        trouble
        for pod in sorted(pods, key=lambda pod: pod.metadata.name)
        if not pod.deleting and not pod.ready
        for trouble in _of_pod(pod)
    ]
    found += unstarted
    return tuple(sorted(found, key=lambda trouble: SEVERITY.index(trouble.reason)))


def busy_with(pods: Iterable[Pod]) -> str:
    """What the first pod that is not ready is doing; "" when there is none."""
    for pod in sorted(pods, key=lambda pod: pod.metadata.name):
        if not pod.deleting and not pod.ready:
            return f"pod {pod.metadata.name} {_doing(pod)}"
    return ""


def _doing(pod: Pod) -> str:
    if not pod.spec.node_name:
        return "waits for a node"
    fetching = [
        status.name.removeprefix(PULLER)
        for status in pod.status.init_container_statuses
        if status.state.running is not None and status.name.startswith(PULLER)
    ]
    if fetching:
        return f"fetches the adapter {fetching[0]}"
    if any(status.state.running is not None for status in pod.status.container_statuses):
        return "loads the model"
    return "is being started, its image pulled if need be"


def _of_pod(pod: Pod) -> Iterable[PodTrouble]:
    name = pod.metadata.name
    if pod.status.phase == "Failed":
        yield _failed(pod)
        return
    for condition in pod.status.conditions:
        if condition.type == "PodScheduled" and condition.reason == "Unschedulable":
            said = f"pod {name}: {condition.message}"
            if "persistentvolumeclaim" in condition.message.lower():
                yield _trouble(reasons.UNSCHEDULABLE, said, UNBOUND)
            else:
                yield _trouble(reasons.UNSCHEDULABLE, said)
    for status in (*pod.status.init_container_statuses, *pod.status.container_statuses):
        yield from _of_container(pod, status)


def _failed(pod: Pod) -> PodTrouble:
    said = f"pod {pod.metadata.name}: {pod.status.reason} {pod.status.message}".rstrip()
    if pod.status.reason != "Evicted":
        return PodTrouble(reasons.POD_FAILED, said)
    if "ephemeral-storage" in pod.status.message:
        said += " Weights, image and adapters need more disk than the node has: use a larger size."
    return PodTrouble(reasons.POD_EVICTED, said)


def _of_container(pod: Pod, status: ContainerStatus) -> Iterable[PodTrouble]:
    who = f"pod {pod.metadata.name}, container {status.name}"
    waiting = status.state.waiting
    ended = status.state.terminated or status.last_state.terminated
    if ended is not None and ended.reason == "OOMKilled":
        yield PodTrouble(
            reasons.OOM_KILLED,
            f"{who}: killed for want of memory (exit code {ended.exit_code}, "
            f"{status.restart_count} restarts). Use a machine with more memory.",
        )
    elif waiting is not None and waiting.reason in IMAGE_REASONS:
        yield _trouble(reasons.IMAGE_PULL, f"{who}: {waiting.reason}: {waiting.message}")
    elif waiting is not None and waiting.reason in START_REASONS:
        yield _trouble(reasons.CONTAINER_START, f"{who}: {waiting.reason}: {waiting.message}")
    elif _crashed(status, ended):
        yield _crash(pod, status, who)


def _trouble(reason: str, message: str, remedy: str = "") -> PodTrouble:
    """The message as a sentence, and what to do about it."""
    return PodTrouble(reason, f"{message.rstrip().rstrip('.')}. {remedy or REMEDIES[reason]}")


def _crashed(status: ContainerStatus, ended: ContainerState | None) -> bool:
    waiting = status.state.waiting
    if waiting is not None:
        return waiting.reason == "CrashLoopBackOff"
    return ended is not None and bool(ended.exit_code) and status.state.running is None


def _crash(pod: Pod, status: ContainerStatus, who: str) -> PodTrouble:
    said = f"{who}: {_ending(status)}"
    if status.name.startswith(PULLER):
        name = status.name.removeprefix(PULLER)
        return PodTrouble(
            reasons.ADAPTER_PULL,
            f"{said}. Check source.image and source.imagePullSecrets of the adapter {name}.",
        )
    logs = (
        f"kubectl logs -n {pod.metadata.namespace} {pod.metadata.name} -c {status.name} --previous"
    )
    return PodTrouble(reasons.CRASH_LOOP, f"{said}. More: {logs}")


def _ending(status: ContainerStatus) -> str:
    ended = status.state.terminated or status.last_state.terminated
    if ended is None:
        return f"ends again and again ({status.restart_count} restarts)"
    hint = " (killed: no answer within the readiness timeout, or from outside)"
    text = f"ended with exit code {ended.exit_code}"
    text += hint if ended.exit_code == SIGKILL else ""
    text += f", {status.restart_count} restarts"
    last_words = ended.message.strip()[-LOG_LIMIT:].rstrip(".")
    return f"{text}. Last words: {last_words}" if last_words else text
