"""What a Node looks like, from what AKS tells its VM.

Invariant: pure; manifests and pieces of them out, as a kubelet on AKS would write them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sandbox.aks.skus import find_sku
from sandbox.nodes.driver import NodeSpec

GPU: Final = "nvidia.com/gpu"
NOT_READY: Final = "node.kubernetes.io/not-ready"
KUBELET_VERSION: Final = "v1.36.3"

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Kubelet:
    """Where a Node's kubelet answers the API server.

    Attributes:
        address: the Node's InternalIP.
        port: for logs.
    """

    address: str
    port: int

    def status(self, name: str) -> Manifest:
        """Returns its part of the Node's status."""
        return {
            "addresses": [
                {"type": "InternalIP", "address": self.address},
                {"type": "Hostname", "address": name},
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self.port}},
        }


def node_manifest(spec: NodeSpec, now: datetime, kubelet: Kubelet | None = None) -> Manifest:
    """Returns a Node that has just registered: not Ready, and without GPUs."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": spec.name, "labels": dict(spec.labels)},
        "spec": {
            "providerID": spec.provider_id,
            "taints": [taint(text) for text in spec.taints],
        },
        "status": {
            "capacity": resources(spec),
            "allocatable": resources(spec),
            "conditions": [
                condition("Ready", "False", "KubeletNotReady", "container runtime is starting", now)
            ],
            "nodeInfo": _node_info(spec),
            **({} if kubelet is None else kubelet.status(spec.name)),
        },
    }


def resources(spec: NodeSpec) -> dict[str, str]:
    """Returns what the VM size offers, GPUs aside: those take a device plugin."""
    sku = find_sku(spec.vm_size)
    return {
        "cpu": str(sku.vcpus if sku else 4),
        "memory": f"{sku.memory_gib if sku else 16:g}Gi",
        "ephemeral-storage": "1Ti",
        "pods": "110",
    }


def taint(text: str) -> dict[str, str]:
    """Reads key=value:effect or key:effect."""
    pair, _, effect = text.rpartition(":")
    key, _, value = pair.partition("=")
    return {"key": key, "effect": effect, **({"value": value} if value else {})}


def condition(kind: str, status: str, reason: str, message: str, now: datetime) -> Manifest:
    """Returns a condition of a Node or Pod that has just changed."""
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": stamp(now),
    }


def with_condition(present: Sequence[Mapping[str, Any]], changed: Manifest) -> list[Manifest]:
    """Returns the conditions with one set; its transition time moves only with its status."""
    kept, new = [], dict(changed)
    for known in present:
        if known["type"] != changed["type"]:
            kept.append(dict(known))
        elif known["status"] == changed["status"] and known.get("lastTransitionTime"):
            new["lastTransitionTime"] = known["lastTransitionTime"]
    return [*kept, new]


def without_taint(taints: Sequence[Mapping[str, Any]], key: str) -> list[Manifest]:
    """Returns the taints without those of that key."""
    return [dict(known) for known in taints if known["key"] != key]


def stamp(moment: datetime) -> str:
    """Returns a moment in whole seconds, as the API writes it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _node_info(spec: NodeSpec) -> dict[str, str]:
    return {
        "machineID": spec.name,
        "systemUUID": spec.name,
        "bootID": spec.name,
        "kernelVersion": "5.15.0-azure",
        "osImage": "Ubuntu 22.04 LTS (emulated)",
        "containerRuntimeVersion": "none://emulated",
        "kubeletVersion": KUBELET_VERSION,
        "kubeProxyVersion": KUBELET_VERSION,
        "operatingSystem": "linux",
        "architecture": "amd64",
    }
