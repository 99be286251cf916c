"""Stands for what an API server alone does not do, as far as a Workspace needs it.

A provisioner that makes nodes for claims, the bookkeeping of Deployments and StatefulSets, and the
end of those that are deleted with their pods.
"""

import asyncio
import contextlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from controlkit.errors import ControlError, NotFound
from controlkit.kube.client import KubeClient
from controlkit.kube.objects import Key
from gpuapis import labels
from gpuapis.core import Deployment, Node, StatefulSet
from gpuapis.machine import Machine
from gpuapis.nodeclaim import NodeClaim

SIZE = "Standard_NC6s_v3"


async def make_node(
    client: KubeClient, name: str, marks: dict[str, str], *, gpus: int, ready: bool = True
) -> None:
    """Creates a Node that has joined."""
    marks = {**marks, labels.INSTANCE_TYPE: SIZE, "kubernetes.io/hostname": name}
    manifest = {
        "metadata": {"name": name, "labels": marks},
        "spec": {"providerID": f"test:///{name}"},
    }
    with contextlib.suppress(ControlError):
        await client.create(Node.RESOURCE, manifest)
    condition = {
        "type": "Ready",
        "status": "True" if ready else "False",
        "reason": "KubeletReady",
        "message": "kubelet is posting ready status",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
        "lastHeartbeatTime": "2026-01-01T00:00:00Z",
    }
    amounts = {"nvidia.com/gpu": str(gpus), "cpu": "6"}
    status = {"conditions": [condition], "allocatable": amounts, "capacity": amounts}
    await client.merge_patch(Node.RESOURCE, Key("", name), {"status": status}, subresource="status")
    # The API server taints what is new as not ready; the node controller would take that away.
    await client.merge_patch(Node.RESOURCE, Key("", name), {"spec": {"taints": None}})


@dataclass
class World:
    """Makes nodes for claims and keeps the books of Deployments, until it is told not to."""

    client: KubeClient
    stop_at: str = "ready"
    """How far claims get: nowhere (nobody reacts to them), asked, launched, registered, ready."""
    failure: tuple[str, str] | None = None
    """Reason and message with which launches fail."""
    gpus: int = 1
    serve: bool = True
    """Whether workloads become ready."""
    collect: bool = True
    """Whether workloads that are deleted with their pods go away."""
    release: bool = True
    """Whether deleted claims go away."""
    over: bool = False
    """Set at the end, so that no request is cut off under way."""
    made: list[str] = field(default_factory=list)
    """Names of all claims ever seen."""

    async def run(self) -> None:
        while not self.over:
            with contextlib.suppress(ControlError):
                await self._turn()
            await asyncio.sleep(0.05)

    async def _turn(self) -> None:
        for claim in await self._claims():
            if claim.key.name not in self.made:
                self.made.append(claim.key.name)
            await (self._end(claim) if claim.deleting else self._further(claim))
        workloads: list[Deployment | StatefulSet] = [
            *(await self.client.list(Deployment)).items,
            *(await self.client.list(StatefulSet)).items,
        ]
        for workload in workloads:
            await self._tend(workload)

    async def _claims(self) -> list[Machine | NodeClaim]:
        """The claims of the kinds that the cluster serves."""
        found: list[Machine | NodeClaim] = []
        with contextlib.suppress(NotFound):
            found += (await self.client.list(Machine)).items
        with contextlib.suppress(NotFound):
            found += (await self.client.list(NodeClaim)).items
        return found

    async def _tend(self, workload: Deployment | StatefulSet) -> None:
        """As the workload's own controller and the garbage collector would."""
        if workload.deleting and self.collect:
            patch = {"metadata": {"finalizers": None}}
            with contextlib.suppress(NotFound):
                await self.client.merge_patch(workload.RESOURCE, workload.key, patch)
        elif self.serve:
            await self._keep_books(workload)

    async def _end(self, claim: Machine | NodeClaim) -> None:
        if not self.release:
            return
        await self.client.delete(Node.RESOURCE, Key("", f"node-{claim.key.name}"))
        with contextlib.suppress(NotFound):
            await self.client.merge_patch(
                claim.RESOURCE, claim.key, {"metadata": {"finalizers": None}}
            )

    async def _further(self, claim: Machine | NodeClaim) -> None:
        if self.stop_at == "nowhere" and self.failure is None:
            return
        if labels.TERMINATION_FINALIZER not in claim.metadata.finalizers:
            patch = {"metadata": {"finalizers": [labels.TERMINATION_FINALIZER]}}
            await self.client.merge_patch(claim.RESOURCE, claim.key, patch)
        done = {
            condition.type for condition in claim.status.conditions if condition.status == "True"
        }
        prefix = "Machine" if isinstance(claim, Machine) else ""
        steps = [f"{prefix}Launched", f"{prefix}Registered", f"{prefix}Initialized", "Ready"]
        reach = {"nowhere": 0, "asked": 0, "launched": 1, "registered": 2, "ready": 4}[self.stop_at]
        node = f"node-{claim.key.name}"
        if "Ready" in done and await self.client.get(Node, Key("", node)) is None:
            await self.client.delete(claim.RESOURCE, claim.key)  # its node was deleted
            return
        if self.failure is not None and steps[0] not in done:
            told = [(c.reason, c.message) for c in claim.status.conditions]
            if told != [self.failure]:
                await self._say(claim, [(steps[0], "False", *self.failure)], "")
            return
        if reach <= len(done) or (reach == 4 and "Ready" in done):
            return
        if reach >= 2:
            await self._make_node(claim, node)
        said = [(step, "True", step, "") for step in steps[:reach]]
        if reach == 4 and not await self._shows_gpu(node):
            lacking = ("ResourceNotRegistered", "nvidia.com/gpu is not offered yet")
            said[2:] = [(steps[2], "Unknown", *lacking), (steps[3], "Unknown", *lacking)]
        if [(c.type, c.status) for c in claim.status.conditions] == [each[:2] for each in said]:
            return
        await self._say(claim, said, node if reach >= 2 else "")

    async def _shows_gpu(self, node: str) -> bool:
        found = await self.client.get(Node, Key("", node))
        return found is not None and found.allocatable(labels.GPU_RESOURCE) > 0

    async def _say(
        self, claim: Machine | NodeClaim, said: list[tuple[str, str, str, str]], node: str
    ) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        conditions = [
            {"type": t, "status": s, "reason": r, "message": m, "lastTransitionTime": now}
            for t, s, r, m in said
        ]
        status: dict[str, Any] = {"conditions": conditions}
        if node:
            status |= {"nodeName": node, "providerID": f"test:///{node}"}
        await self.client.merge_patch(
            claim.RESOURCE, claim.key, {"status": status}, subresource="status"
        )

    async def _make_node(self, claim: Machine | NodeClaim, name: str) -> None:
        if await self.client.get(Node, Key("", name)) is None:
            await make_node(self.client, name, claim.metadata.labels, gpus=self.gpus)

    async def _keep_books(self, found: Deployment | StatefulSet) -> None:
        wanted = found.spec.replicas
        status = {
            "observedGeneration": found.metadata.generation,
            "replicas": wanted,
            "readyReplicas": wanted,
            "updatedReplicas": wanted,
            "availableReplicas": wanted,
        }
        if (found.status.observed_generation, found.status.ready_replicas) == (
            found.metadata.generation,
            wanted,
        ):
            return
        await self.client.merge_patch(
            found.RESOURCE, found.key, {"status": status}, subresource="status"
        )
