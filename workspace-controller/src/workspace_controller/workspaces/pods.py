"""Reads what pods say: what is wrong with the worst one, or what they are busy with.

Invariant: the worst trouble speaks first, in an order that puts causes before their symptoms.
"""

from collections.abc import Iterable
from typing import Final

from gpuapis.core import ContainerStatus, Pod
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
    reasons.CRASH_LOOP,
    reasons.POD_EVICTED,
    reasons.POD_FAILED,
    reasons.UNSCHEDULABLE,
)
LOG_LIMIT: Final = 600
SIGKILL: Final = 137


def troubles(pods: Iterable[Pod]) -> tuple[PodTrouble, ...]:
    """What is wrong with the pods that are not on their way out, worst first."""
    found = [
        trouble
        for pod in sorted(pods, key=lambda pod: pod.metadata.name)
        if not pod.deleting and not pod.ready
        for trouble in _of_pod(pod)
    ]
    return tuple(sorted(found, key=lambda trouble: SEVERITY.index(trouble.reason)))


def busy_with(pods: Iterable[Pod]) -> str:
    """What the first pod that is not ready is doing; "" when there is none."""
    for pod in sorted(pods, key=lambda pod: pod.metadata.name):
        if pod.deleting or pod.ready:
            continue
        if not pod.spec.node_name:
            return f"pod {pod.metadata.name} waits for a node"
        running = [s for s in pod.status.container_statuses if s.state.running is not None]
        doing = "loads the model" if running else "is being started, its image pulled if need be"
        return f"pod {pod.metadata.name} {doing}"
    return ""


def _of_pod(pod: Pod) -> Iterable[PodTrouble]:
    name = pod.metadata.name
    if pod.status.phase == "Failed":
        evicted = pod.status.reason == "Evicted"
        reason = reasons.POD_EVICTED if evicted else reasons.POD_FAILED
        yield PodTrouble(reason, f"pod {name}: {pod.status.reason} {pod.status.message}".rstrip())
        return
    for condition in pod.status.conditions:
        if condition.type == "PodScheduled" and condition.reason == "Unschedulable":
            yield PodTrouble(reasons.UNSCHEDULABLE, f"pod {name}: {condition.message}")
    for status in (*pod.status.init_container_statuses, *pod.status.container_statuses):
        yield from _of_container(name, status)


def _of_container(pod: str, status: ContainerStatus) -> Iterable[PodTrouble]:
    who = f"pod {pod}, container {status.name}"
    waiting = status.state.waiting
    ended = status.state.terminated or status.last_state.terminated
    if ended is not None and ended.reason == "OOMKilled":
        yield PodTrouble(
            reasons.OOM_KILLED,
            f"{who}: killed for want of memory (exit code {ended.exit_code}, "
            f"{status.restart_count} restarts). Use a machine with more memory.",
        )
        return
    if waiting is not None and waiting.reason in IMAGE_REASONS:
        yield PodTrouble(reasons.IMAGE_PULL, f"{who}: {waiting.reason}: {waiting.message}")
    elif waiting is not None and waiting.reason in START_REASONS:
        yield PodTrouble(reasons.CONTAINER_START, f"{who}: {waiting.reason}: {waiting.message}")
    elif (waiting is not None and waiting.reason == "CrashLoopBackOff") or (
        ended is not None and ended.exit_code and waiting is None and not status.state.running
    ):
        yield PodTrouble(reasons.CRASH_LOOP, f"{who}: {_ending(status)}")


def _ending(status: ContainerStatus) -> str:
    ended = status.state.terminated or status.last_state.terminated
    if ended is None:
        return f"ends again and again ({status.restart_count} restarts)"
    hint = " (killed: no answer within the readiness timeout, or from outside)"
    text = f"ended with exit code {ended.exit_code}"
    text += hint if ended.exit_code == SIGKILL else ""
    text += f", {status.restart_count} restarts"
    last_words = ended.message.strip()[-LOG_LIMIT:]
    return f"{text}. Last words: {last_words}" if last_words else text
