"""Whether a node can be used for what its claim asks for, and if not, why.

Invariant: pure; the first thing that is lacking is named, with the node and the value.
"""

from typing import Final

from gpu_provisioner.claims.claim import Claim, Taint
from gpu_provisioner.claims.progress import DONE, Step
from gpu_provisioner.claims.quantities import quantity
from gpu_provisioner.nodes.registration import taints_of
from gpuapis.core import Node
from gpuapis.labels import UNREGISTERED_TAINT

_EPHEMERAL: Final = (
    Taint("node.kubernetes.io/not-ready", "", "NoSchedule"),
    Taint("node.kubernetes.io/not-ready", "", "NoExecute"),
    Taint("node.kubernetes.io/unreachable", "", "NoSchedule"),
    Taint("node.cloudprovider.kubernetes.io/uninitialized", "true", "NoSchedule"),
    Taint(UNREGISTERED_TAINT, "", "NoExecute"),
)


def initialization(node: Node, claim: Claim) -> Step:
    """Done, or what a node still lacks for its claim."""
    name = node.metadata.name
    if not node.ready:
        return Step("waiting", "NodeNotReady", f"Node {name} is not ready: {_why_not_ready(node)}.")
    taints = taints_of(node)
    for taint in claim.startup_taints:
        if any(taint.like(other) for other in taints):
            return Step(
                "waiting",
                "StartupTaintsExist",
                f"Node {name} still has the startup taint {taint.key}:{taint.effect}; the daemon "
                "that prepares the node has to remove it.",
            )
    for taint in _EPHEMERAL:
        if any(taint.like(other) for other in taints):
            return Step(
                "waiting",
                "KnownEphemeralTaintsExist",
                f"Node {name} still has the taint {taint.key}:{taint.effect}.",
            )
    for resource in claim.requests:
        if resource != "storage" and _positive(claim.requests[resource]):
            offered = node.status.allocatable.get(resource, 0)
            if not _positive(offered):
                return Step(
                    "waiting",
                    "ResourceNotRegistered",
                    f"Node {name} does not offer {resource} yet; its device plugin has to report it.",
                )
    return DONE


def _positive(amount: str | int) -> bool:
    try:
        return quantity(amount) > 0
    except ValueError:
        return False


def _why_not_ready(node: Node) -> str:
    for condition in node.status.conditions:
        if condition.type == "Ready":
            return condition.message or condition.reason or f"Ready is {condition.status}"
    return "its kubelet has not reported yet"
