"""Reads and writes Node objects in the cluster.

Invariant: only what the VM owns is written: a read-modify-write is refused when anyone else wrote
in between, and then done again on what they wrote.
"""

from collections.abc import Callable
from typing import Any, Final

from controlkit.clock import Clock, SystemClock
from controlkit.errors import AlreadyExists, NotFound, Stale
from controlkit.kube.client import KubeClient
from controlkit.kube.objects import Key
from gpuapis.core import Node
from sandbox.nodes.driver import NodeSpec
from sandbox.nodes.objects import (
    GPU,
    NOT_READY,
    Manifest,
    condition,
    node_manifest,
    with_condition,
    without_taint,
)

TRIES: Final = 20
RESOURCE: Final = Node.RESOURCE


class NodeRegistry:
    """The Nodes of the emulated VMs."""

    def __init__(self, client: KubeClient, clock: Clock | None = None) -> None:
        self._client = client
        self._clock = clock or SystemClock()

    async def register(self, spec: NodeSpec, *, address: str = "") -> None:
        """Creates the Node, unless it is there."""
        manifest = node_manifest(spec, self._clock.now(), address=address)
        try:
            await self._client.create(RESOURCE, manifest)
        except AlreadyExists:
            return

    async def set_ready(self, name: str, *, annotations: dict[str, str] | None = None) -> None:
        """Makes the Node Ready, and takes away the taint that says it is not.

        Where a node controller runs it removes that taint as well; a bare API server has none.
        """
        await self.set_condition(
            name, "Ready", "True", "KubeletReady", "kubelet is posting ready status"
        )
        await self._rewrite(name, lambda node: _as_ready(node, annotations or {}))

    async def set_condition(
        self, name: str, kind: str, status: str, reason: str, message: str
    ) -> None:
        """Sets a condition; no effect when the Node is gone."""
        changed = condition(kind, status, reason, message, self._clock.now())

        def patch(node: Manifest) -> Manifest:
            present = node.get("status", {}).get("conditions", [])
            return {"status": {"conditions": with_condition(present, changed)}}

        await self._rewrite(name, patch, subresource="status")

    async def advertise_gpu(self, spec: NodeSpec) -> None:
        """Adds the GPUs to capacity and allocatable; no effect when the Node is gone."""
        count = {GPU: str(spec.gpus)}
        patch = {"status": {"capacity": count, "allocatable": count}}
        try:
            await self._client.merge_patch(
                RESOURCE, Key("", spec.name), patch, subresource="status"
            )
        except NotFound:
            return

    async def delete(self, name: str) -> None:
        """Deletes the Node; one that a finalizer keeps shows that its kubelet is silent."""
        await self._client.delete(RESOURCE, Key("", name))
        # Not before: kwok takes an Unknown Node that is not being deleted for one to revive.
        await self.set_condition(
            name, "Ready", "Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status."
        )

    async def _rewrite(
        self, name: str, patch: Callable[[Manifest], Manifest], *, subresource: str = ""
    ) -> None:
        key = Key("", name)
        for attempt in range(1, TRIES + 1):
            try:
                node: dict[str, Any] = await self._client.read(RESOURCE.path("", name))
                version = node["metadata"]["resourceVersion"]
                change = patch(node)
                change.setdefault("metadata", {})["resourceVersion"] = version
                await self._client.merge_patch(RESOURCE, key, change, subresource=subresource)
            except NotFound:
                return
            except Stale:
                if attempt == TRIES:
                    raise
                continue
            return


def _as_ready(node: Manifest, annotations: dict[str, str]) -> Manifest:
    taints = without_taint(node["spec"].get("taints", []), NOT_READY)
    return {"metadata": {"annotations": annotations}, "spec": {"taints": taints}}
