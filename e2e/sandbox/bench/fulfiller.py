"""Stands in for a provisioner whose nodes are Ready a fixed time after their claim appears.

It does what any Karpenter-compatible provisioner does as far as a claim's owner can see: makes the
Node, with the claim's labels and taints and its GPUs, and writes the claim's status.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from controlkit.cache import Cache
from controlkit.errors import AlreadyExists
from controlkit.kube.client import KubeClient
from gpuapis import labels
from gpuapis.core import Node
from gpuapis.machine import Machine
from gpuapis.nodeclaim import NodeClaim

AnyClaim = Machine | NodeClaim
Claims = Cache[Machine] | Cache[NodeClaim]
CALLS_AT_ONCE = 16

STEPS: Final[Mapping[type[AnyClaim], tuple[str, ...]]] = {
    Machine: ("MachineLaunched", "MachineRegistered", "MachineInitialized", "Ready"),
    NodeClaim: ("Launched", "Registered", "Initialized", "Ready"),
}


def everything(_: AnyClaim) -> bool:
    """Serves every claim."""
    return True


@dataclass
class Fulfiller:
    """Serves every claim that the cache comes to hold."""

    client: KubeClient
    seconds: float
    """From a claim's appearance to its Ready node."""
    serves: Callable[[AnyClaim], bool] = everything
    """Which claims get a node."""

    def __post_init__(self) -> None:
        self._due: asyncio.Queue[tuple[float, AnyClaim]] = asyncio.Queue()

    def follow(self, cache: Claims) -> None:
        """Serves the claims of a cache; call it before the cache is filled."""
        cache.subscribe(self._seen)

    def _seen(self, old: AnyClaim | None, new: AnyClaim | None) -> None:
        if old is None and new is not None and self.serves(new):
            self._due.put_nowait((asyncio.get_running_loop().time() + self.seconds, new))

    async def run(self) -> None:
        """Serves claims until cancelled; all wait equally long, so the queue is in order."""
        async with asyncio.TaskGroup() as group:
            for _ in range(CALLS_AT_ONCE):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            due, claim = await self._due.get()
            await asyncio.sleep(due - asyncio.get_running_loop().time())
            node = node_of(claim)
            try:
                await self.client.create(Node.RESOURCE, node)
            except AlreadyExists:
                continue  # the claim of a relist; its node is there
            await self.client.merge_patch(
                claim.RESOURCE,
                claim.key,
                {"status": status_of(claim, node)},
                subresource="status",
            )


def node_of(claim: AnyClaim) -> dict[str, Any]:
    """The Ready Node that a claim asks for."""
    wanted = {
        each.key: each.values[0]
        for each in claim.spec.requirements
        if each.operator == "In" and each.values
    }
    gpus = str(claim.spec.resources.requests.get(labels.GPU_RESOURCE, "1"))
    amounts = {"cpu": "16", "memory": "110Gi", "ephemeral-storage": "1Ti", "pods": "110"}
    amounts[labels.GPU_RESOURCE] = gpus
    name = f"node-{claim.metadata.name}"
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {"kwok.x-k8s.io/node": "fake"},
            "labels": wanted | claim.metadata.labels | {labels.HOSTNAME: name},
        },
        "spec": {
            "providerID": f"bench:///{name}",
            "taints": [taint.manifest() for taint in claim.spec.taints],
        },
        "status": {
            "capacity": amounts,
            "allocatable": amounts,
            "conditions": [_condition("Ready", "KubeletReady")],
        },
    }


def status_of(claim: AnyClaim, node: Mapping[str, Any]) -> dict[str, Any]:
    """The status of a claim whose node is Ready."""
    return {
        "nodeName": node["metadata"]["name"],
        "providerID": node["spec"]["providerID"],
        "capacity": node["status"]["capacity"],
        "allocatable": node["status"]["allocatable"],
        "conditions": [_condition(step, step) for step in STEPS[type(claim)]],
    }


def _condition(kind: str, reason: str) -> dict[str, str]:
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return {"type": kind, "status": "True", "reason": reason, "lastTransitionTime": now}
