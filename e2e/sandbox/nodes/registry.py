"""Reads and writes Node objects in the cluster.

Invariant: only what the VM owns is written: a read-modify-write is refused when anyone else wrote
in between, and then done again on what they wrote.
"""

from collections.abc import Mapping
from typing import Final

from controlkit.clock import Clock, SystemClock
from controlkit.errors import AlreadyExists, NotFound
from controlkit.kube.client import KubeClient
from controlkit.kube.objects import Key, Resource
from gpuapis.core import Node
from sandbox.nodes.driver import NodeSpec
from sandbox.nodes.objects import (
    GPU,
    NOT_READY,
    Kubelet,
    Manifest,
    condition,
    node_manifest,
    with_condition,
    without_taint,
)
from sandbox.nodes.rewriting import rewrite

RESOURCE: Final = Node.RESOURCE
LEASE: Final = Resource("coordination.k8s.io", "v1", "leases", "Lease")
LEASE_SECONDS: Final = 40


class NodeRegistry:
    """The Nodes of the emulated VMs."""

    def __init__(self, client: KubeClient, clock: Clock | None = None) -> None:
        self._client = client
        self._clock = clock or SystemClock()

    async def register(
        self,
        spec: NodeSpec,
        *,
        kubelet: Kubelet | None = None,
        annotations: Mapping[str, str] | None = None,
    ) -> None:
        """Creates the Node; one that is there only learns where its kubelet is now."""
        manifest = node_manifest(spec, self._clock.now(), kubelet)
        manifest["metadata"]["annotations"] = dict(annotations or {})
        try:
            await self._client.create(RESOURCE, manifest)
        except AlreadyExists:
            if kubelet is not None:
                await self._patch_status(spec.name, kubelet.status(spec.name))

    async def set_ready(self, name: str) -> None:
        """Makes the Node Ready, and takes away the taint that says it is not.

        Where a node controller runs it removes that taint as well; a bare API server has none.
        """
        await self.set_condition(
            name, "Ready", "True", "KubeletReady", "kubelet is posting ready status"
        )
        await rewrite(self._client, RESOURCE, Key("", name), _as_ready)

    async def keep_ready(self, name: str) -> None:
        """Makes the Node Ready again if others took its silence for death."""
        node = await self._client.get(Node, Key("", name))
        if node is not None and not node.ready:
            await self.set_ready(name)

    async def set_condition(
        self, name: str, kind: str, status: str, reason: str, message: str
    ) -> None:
        """Sets a condition; no effect when the Node is gone."""
        changed = condition(kind, status, reason, message, self._clock.now())

        def patch(node: Manifest) -> Manifest:
            present = node.get("status", {}).get("conditions", [])
            return {"status": {"conditions": with_condition(present, changed)}}

        await rewrite(self._client, RESOURCE, Key("", name), patch, subresource="status")

    async def advertise_gpu(self, spec: NodeSpec) -> None:
        """Adds the GPUs to capacity and allocatable; no effect when the Node is gone."""
        count = {GPU: str(spec.gpus)}
        await self._patch_status(spec.name, {"capacity": count, "allocatable": count})

    async def renew_lease(self, name: str) -> None:
        """Says that the Node is alive, as a kubelet does every ten seconds."""
        lease = {
            "metadata": {"name": name, "namespace": "kube-node-lease"},
            "spec": {
                "holderIdentity": name,
                "leaseDurationSeconds": LEASE_SECONDS,
                "renewTime": self._clock.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            },
        }
        await self._client.apply(LEASE, lease, force=True)

    async def delete(self, name: str) -> None:
        """Deletes the Node; one that a finalizer keeps shows that its kubelet is silent."""
        await self._client.delete(LEASE, Key("kube-node-lease", name))
        await self._client.delete(RESOURCE, Key("", name))
        # Not before: kwok takes an Unknown Node that is not being deleted for one to revive.
        await self.set_condition(
            name, "Ready", "Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status."
        )

    async def _patch_status(self, name: str, status: Manifest) -> None:
        try:
            await self._client.merge_patch(
                RESOURCE, Key("", name), {"status": status}, subresource="status"
            )
        except NotFound:
            return


def _as_ready(node: Manifest) -> Manifest:
    return {"spec": {"taints": without_taint(node["spec"].get("taints", []), NOT_READY)}}
