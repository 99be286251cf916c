"""Carries out the actions of a plan, one arm for each.

Invariant: every arm may run twice or be cut off anywhere; writes to lists are guarded by the
version that was read, so that nobody else's entry is lost.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, assert_never

import structlog

from controlkit.errors import NotFound, Stale, Transient
from controlkit.events import EventRecorder
from controlkit.kube.client import KubeClient
from controlkit.kube.objects import KubeObject, ObjectMeta, Resource
from gpu_provisioner.azure.gateway import Gateway
from gpu_provisioner.claims import metrics
from gpu_provisioner.claims.actions import (
    Action,
    Bind,
    ConfirmGone,
    Cordon,
    DeleteClaim,
    Evict,
    Hold,
    Leave,
    MarkInitialized,
    RegisterNode,
    Release,
    ReleaseNode,
)
from gpu_provisioner.claims.claim import Claim
from gpu_provisioner.claims.events import (
    Event,
    claim_deleted,
    drain_blocked,
    image_family_unknown,
)
from gpu_provisioner.claims.shape import unknown_image_family
from gpu_provisioner.nodes.registration import (
    cordon_patch,
    initialized_patch,
    registration_patch,
    release_patch,
)
from gpu_provisioner.pools.departures import Departures
from gpu_provisioner.pools.roster import Roster
from gpuapis.core import Node, Pod
from gpuapis.labels import ASSIGNED_NODE, TERMINATION_FINALIZER

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Work:
    """One pass over one claim.

    Attributes:
        item: the object as it was read.
        claim: the claim that it is.
        resource: its kind.
        version: the claim's resourceVersion after our last write.
        nodes: the resourceVersion of each node after our last write.
    """

    item: KubeObject
    claim: Claim
    resource: Resource
    version: str = ""
    nodes: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.version = self.claim.version


class Executor:
    """Does what plans ask for."""

    def __init__(
        self,
        client: KubeClient,
        gateway: Gateway,
        roster: Roster,
        departures: Departures,
        events: EventRecorder,
        *,
        look_at: Callable[[str], None],
    ) -> None:
        """An executor.

        Args:
            client: of the API server.
            gateway: of Azure.
            roster: is told at once what was written.
            departures: is told which claims are done with their VM.
            events: takes what a person should know.
            look_at: has a pool looked at.
        """
        self._client = client
        self._gateway = gateway
        self._roster = roster
        self._departures = departures
        self._events = events
        self._look_at = look_at
        self._given_up: set[str] = set()

    async def carry_out(self, work: Work, action: Action) -> None:
        """Does one thing.

        Raises:
            AzureError: Azure said no, or nothing.
            ControlError: the API server did.
        """
        match action:
            case Hold() | Bind() | Release():
                await self._claim(work, action)
            case DeleteClaim(reason, message):
                await self._give_up(work, reason, message)
            case Leave(pool):
                if self._departures.ask(work.claim.uid):
                    self._look_at(pool)
            case ConfirmGone(pool):
                await self._gateway.confirm_gone(pool)
            case RegisterNode() | MarkInitialized() | Cordon() | ReleaseNode():
                await self._node(work, action)
            case Evict(pod):
                await self._evict(work, pod)
            case _:
                assert_never(action)

    async def write_claim(self, work: Work, metadata: Mapping[str, Any]) -> None:
        """Patches the claim's metadata, if it is still as this pass knows it."""
        guarded = {**metadata, "resourceVersion": work.version}
        written = await self._client.merge_patch(
            work.resource, work.claim.key, {"metadata": guarded}
        )
        work.version = written.resource_version

    async def write_status(self, work: Work, status: Mapping[str, Any]) -> None:
        """Patches the claim's status, if it is still as this pass knows it."""
        patch = {"metadata": {"resourceVersion": work.version}, "status": dict(status)}
        written = await self._client.merge_patch(
            work.resource, work.claim.key, patch, subresource="status"
        )
        work.version = written.resource_version

    def tell(self, work: Work, event: Event) -> None:
        """Records an Event on the claim."""
        self._events.event(work.item, event.type, event.reason, event.message)

    def forget(self, uid: str) -> None:
        """The claim is gone."""
        self._given_up.discard(uid)
        self._departures.forget(uid)

    async def _give_up(self, work: Work, reason: str, message: str) -> None:
        await self._client.delete(work.resource, work.claim.key, uid=work.claim.uid)
        if work.claim.uid in self._given_up:
            return  # the cache does not show it yet
        self._given_up.add(work.claim.uid)
        self.tell(work, claim_deleted(reason, message))
        metrics.GIVEN_UP.labels(work.claim.kind, reason).inc()
        log.warning("claim given up", reason=reason, detail=message)

    async def _claim(self, work: Work, action: Hold | Bind | Release) -> None:
        match action:
            case Hold(labels):
                finalizers = [*work.claim.finalizers, TERMINATION_FINALIZER]
                await self.write_claim(work, {"finalizers": finalizers, "labels": dict(labels)})
                if unknown_image_family(work.claim):
                    self.tell(work, image_family_unknown(work.claim))
            case Bind(node):
                note = {ASSIGNED_NODE: node.metadata.name}
                await self.write_claim(work, {"annotations": note})
                self._roster.wrote(work.claim, work.version, labels={}, annotations=note)
                log.info("claim bound", node=node.metadata.name)
            case Release():
                kept = [each for each in work.claim.finalizers if each != TERMINATION_FINALIZER]
                await self.write_claim(work, {"finalizers": kept})
                metrics.REMOVED.labels(work.claim.kind).inc()
                log.info("claim let go")
            case _:
                assert_never(action)

    async def _node(
        self, work: Work, action: RegisterNode | MarkInitialized | Cordon | ReleaseNode
    ) -> None:
        node = action.node
        match action:
            case RegisterNode():
                await self._write_node(work, node, registration_patch(node, work.claim))
                log.info("node registered", node=node.metadata.name)
            case MarkInitialized():
                # One label of ours: nobody's entry can be lost, so no guard.
                await self._write_node(work, node, initialized_patch(node), guarded=False)
                log.info("node initialized", node=node.metadata.name)
            case Cordon():
                await self._write_node(work, node, cordon_patch(node))
                log.info("node cordoned", node=node.metadata.name)
            case ReleaseNode():
                with suppress(NotFound):
                    await self._write_node(work, node, release_patch(node))
                await self._client.delete(Node.RESOURCE, node.key, uid=node.metadata.uid)
                log.info("node let go", node=node.metadata.name)
            case _:
                assert_never(action)

    async def _write_node(
        self, work: Work, node: Node, patch: dict[str, Any] | None, *, guarded: bool = True
    ) -> None:
        if patch is None:
            return
        if guarded:
            patch["metadata"]["resourceVersion"] = node.metadata.resource_version
        written: ObjectMeta = await self._client.merge_patch(Node.RESOURCE, node.key, patch)
        work.nodes[node.metadata.name] = written.resource_version

    async def _evict(self, work: Work, pod: Pod) -> None:
        """Asks one pod to leave; a disruption budget that forbids it must not stop the others."""
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"namespace": pod.metadata.namespace, "name": pod.metadata.name},
            "deleteOptions": {"preconditions": {"uid": pod.metadata.uid}},
        }
        path = Pod.RESOURCE.path(pod.metadata.namespace, pod.metadata.name, "eviction")
        try:
            await self._client.post(path, eviction)
        except Stale:
            return  # it is gone, or another pod has its name
        except Transient as error:
            self.tell(work, drain_blocked(pod, error.message))
            return
        log.info("pod evicted", pod=str(pod.key))
