"""Divides a node's labels: those that a kubelet may give itself, and those that the cloud gives.

A kubelet that is told to set any other label of Kubernetes' own domains refuses to start.
"""

from collections.abc import Mapping
from dataclasses import dataclass

_OWN_DOMAINS = ("kubernetes.io", "k8s.io")
_KUBELET_DOMAINS = ("kubelet.kubernetes.io", "node.kubernetes.io")
_KUBELET_LABELS = frozenset(
    {
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/instance-type",
        "beta.kubernetes.io/os",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "kubernetes.io/arch",
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "node.kubernetes.io/instance-type",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
    }
)


@dataclass(frozen=True)
class Labels:
    """A node's labels by who sets them."""

    by_kubelet: Mapping[str, str]
    by_cloud: Mapping[str, str]


def divide(labels: Mapping[str, str]) -> Labels:
    """Divides labels by the rule that kubelet checks `--node-labels` with."""
    allowed = {key: value for key, value in labels.items() if _kubelet_may_set(key)}
    rest = {key: value for key, value in labels.items() if key not in allowed}
    return Labels(allowed, rest)


def _kubelet_may_set(key: str) -> bool:
    domain, slash, _ = key.rpartition("/")
    if not slash or not _within(domain, _OWN_DOMAINS):
        return True
    return key in _KUBELET_LABELS or _within(domain, _KUBELET_DOMAINS)


def _within(domain: str, parents: tuple[str, ...]) -> bool:
    return any(domain == parent or domain.endswith(f".{parent}") for parent in parents)
