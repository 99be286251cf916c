"""Which pods have to leave a node before its VM goes, and which of them next.

Invariant: pure; a pod that cannot or need not leave never holds up the removal of a paid VM.
"""

from datetime import datetime, timedelta
from typing import Final

from gpu_provisioner.nodes.registration import DISRUPTED
from gpuapis.core import Pod, Toleration

_CRITICAL: Final = frozenset({"system-cluster-critical", "system-node-critical"})
_MIRROR: Final = "kubernetes.io/config.mirror"
_STUCK_AFTER: Final = timedelta(minutes=1)


def remaining(pods: tuple[Pod, ...], now: datetime) -> tuple[Pod, ...]:
    """The pods that must have left before the VM may go."""
    return tuple(pod for pod in pods if _must_leave(pod, now))


def next_to_leave(pods: tuple[Pod, ...]) -> tuple[Pod, ...]:
    """Of the remaining pods, those to evict now: models before daemons, critical pods last."""
    if not pods:
        return ()
    first = min(_turn(pod) for pod in pods)
    return tuple(pod for pod in pods if _turn(pod) == first and not pod.deleting)


def _must_leave(pod: Pod, now: datetime) -> bool:
    if pod.status.phase in {"Succeeded", "Failed"} or _MIRROR in pod.metadata.annotations:
        return False
    if any(_tolerates(each) for each in pod.spec.tolerations):
        return False
    # The deletion timestamp holds the grace period already: past it, nobody ends this pod.
    gone_by = pod.metadata.deletion_timestamp
    return gone_by is None or now < gone_by + _STUCK_AFTER


def _turn(pod: Pod) -> tuple[bool, bool]:
    daemon = any(owner.kind == "DaemonSet" for owner in pod.metadata.owner_references)
    return pod.spec.priority_class_name in _CRITICAL, daemon


def _tolerates(toleration: Toleration) -> bool:
    if toleration.effect not in {"", DISRUPTED.effect}:
        return False
    if toleration.operator == "Exists":
        return toleration.key in {"", DISRUPTED.key}
    return toleration.key == DISRUPTED.key and toleration.value == DISRUPTED.value
