"""Carries out what a plan says: one arm per action, each safe to repeat.

Invariant: a claim is created under a name that no crash can change, and never while the one it
replaces still exists.
"""

import asyncio
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from typing import Any, assert_never

import structlog

from controlkit.cache import Cache
from controlkit.errors import AlreadyExists, Blocked, ControlError, NotFound, Rejected, Stale
from controlkit.kube.client import KubeClient
from controlkit.kube.objects import Key, metadata_only
from gpuapis import labels
from gpuapis.core import Node
from gpuapis.workspace import Workspace
from workspace_controller.caches import Caches
from workspace_controller.claims.dialects import VIEWS, AnyClaim, write
from workspace_controller.manifests.claims import ClaimNeed, NodeClass
from workspace_controller.manifests.model import Model
from workspace_controller.tuning.execute import RunWriter
from workspace_controller.workspaces import reasons
from workspace_controller.workspaces.child_writer import ChildWriter
from workspace_controller.workspaces.events import Events
from workspace_controller.workspaces.facts import (
    Action,
    AddFinalizer,
    ApplyChild,
    Claim,
    ClaimKind,
    CreateClaims,
    DeleteClaims,
    LabelNode,
    Order,
    ReleaseNodes,
    RemoveChild,
    RemoveFinalizer,
    ReserveNode,
    Scale,
    StartRun,
    Vet,
    VetRun,
)
from workspace_controller.workspaces.holding import Hold
from workspace_controller.workspaces.observe import Sight
from workspace_controller.workspaces.slots import claim_name
from workspace_controller.workspaces.target import Target
from workspace_controller.workspaces.vetting import written_by_user

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Writing:
    """How claims are written; the same for every Workspace."""

    node_class: NodeClass
    azure: bool


@dataclass(frozen=True)
class Executor:
    """Acts on the cluster for one Workspace at a time."""

    client: KubeClient
    caches: Caches
    writing: Writing
    children: ChildWriter
    runs: RunWriter
    events: Events
    hold: Hold

    async def carry_out(self, workspace: Workspace, sight: Sight, action: Action) -> None:
        """Performs one action.

        Raises:
            ControlError: what the API server said; the pass ends and is repeated.
        """
        try:
            await self._perform(workspace, sight, action)
        except Rejected as error:
            # What we write is ours to get right: no edit of the Workspace need be the cure, but
            # the end of an admission policy may be, and of that nobody tells us.
            judged = isinstance(action, Vet) or action == ApplyChild("Deployment")
            if judged and sight.model is not None and written_by_user(sight.model):
                raise _refused(sight.model, error) from error
            reason = error.reason
            if isinstance(action, VetRun | StartRun):  # the rest of a Job is from our own schema
                reason = reasons.VOLUME_REJECTED
            raise Blocked(reason, error.message) from error

    async def _perform(self, workspace: Workspace, sight: Sight, action: Action) -> None:
        match action:
            case AddFinalizer() | RemoveFinalizer():
                await self._set_finalizer(workspace, held=isinstance(action, AddFinalizer))
            case CreateClaims():
                assert sight.target is not None
                await self._create_claims(workspace, sight.target, action)
            case DeleteClaims():
                await self._delete_claims(workspace, action.claims)
            case ReserveNode():
                await self._reserve(workspace, action.name)
            case ReleaseNodes():
                await self._release(workspace, action.names)
            case LabelNode():
                await self._label(workspace, action.name)
            case VetRun() | StartRun() | RemoveChild(kind="Job"):
                await self._tune(workspace, sight.target, action)
            case ApplyChild() | RemoveChild() | Scale() | Vet():
                await self.children.carry_out(workspace, sight.model, action)
            case _:
                assert_never(action)

    async def _set_finalizer(self, workspace: Workspace, *, held: bool) -> None:
        """Guarded by the resourceVersion, so that no other's finalizer is ever lost."""
        if not held:
            self.children.vetting.forget(workspace)
        meta = workspace.metadata
        others = [each for each in meta.finalizers if each != labels.WORKSPACE_FINALIZER]
        ours = [labels.WORKSPACE_FINALIZER] if held else []
        patch = {
            "metadata": {
                "resourceVersion": meta.resource_version,
                "finalizers": others + ours,
            }
        }
        try:
            written = await self.client.merge_patch(Workspace.RESOURCE, workspace.key, patch)
        except NotFound:
            if held:
                raise  # nothing may be bought for a Workspace that is gone
            return  # gone already: there is nothing left to let go
        self.hold(workspace.key, self.caches.workspaces, workspace.key, written.resource_version)

    async def _tune(
        self, workspace: Workspace, target: Target | None, action: VetRun | StartRun | RemoveChild
    ) -> None:
        match action:
            case VetRun():
                assert target is not None
                await self.runs.vet(workspace, target, action)
            case StartRun():
                assert target is not None
                await self.runs.start(workspace, target, action)
            case RemoveChild():
                await self.runs.remove(workspace)

    # ---- claims ----

    async def _create_claims(
        self, workspace: Workspace, target: Target, action: CreateClaims
    ) -> None:
        made: list[str] = []
        try:
            await _all_of(
                self._create_claim(workspace, target, action.kind, order, made)
                for order in action.orders
            )
        finally:
            if made:
                self.events.claims_created(
                    workspace, action.kind, sorted(made), target.instance_type
                )

    async def _create_claim(
        self,
        workspace: Workspace,
        target: Target,
        kind: ClaimKind,
        order: Order,
        made: list[str],
    ) -> None:
        """Creates one claim; `made` gets its name unless it was there."""
        if order.after:
            await self._refuse_two(order.after)
        for attempt in (order.attempt, order.attempt + 1):
            name = claim_name(workspace.metadata.uid, order.slot, attempt)
            need = ClaimNeed(
                name, order.slot, attempt, target.instance_type, target.gpus, target.disk
            )
            if await self._create_or_find(workspace, kind, need, made):
                return
        raise Blocked("ClaimNameTaken", f"{kind} {name} exists and is not this Workspace's")

    async def _refuse_two(self, name: str) -> None:
        """The claim to be replaced may be of either kind, since the setting may have changed."""
        for kind in VIEWS:
            if await self._find(kind, name) is not None:
                raise Stale("ClaimStillThere", f"{kind} {name} is not gone yet")

    async def _create_or_find(
        self, workspace: Workspace, kind: ClaimKind, need: ClaimNeed, made: list[str]
    ) -> bool:
        """Creates a claim, or finds that it is there; False when the name is another's."""
        manifest = write(kind, workspace, need, self.writing.node_class, azure=self.writing.azure)
        try:
            written = await self.client.create(VIEWS[kind].RESOURCE, manifest)
        except AlreadyExists as error:
            found = await self._find(kind, need.name)
            if found is None or found.deleting:
                raise Stale("ClaimStillThere", f"{kind} {need.name} is on its way out") from error
            if found.metadata.annotations.get(labels.WORKSPACE_UID) != workspace.metadata.uid:
                return False
            written = found.metadata
        else:
            log.info("claim created", kind=kind, claim=need.name, slot=need.slot)
            made.append(need.name)
        cache: Cache[Any] = self.caches.machines if kind == "Machine" else self.caches.nodeclaims
        self.hold(workspace.key, cache, Key("", need.name), written.resource_version)
        return True

    async def _find(self, kind: ClaimKind, name: str) -> AnyClaim | None:
        """The claim as the API server has it, not as a cache may remember it."""
        found: AnyClaim | None = await self.client.get(VIEWS[kind], Key("", name))
        return found

    async def _delete_claims(self, workspace: Workspace, claims: tuple[Claim, ...]) -> None:
        await _all_of(self._delete_claim(claim) for claim in claims)
        log.info("claims deleted", claims=[claim.name for claim in claims])
        self.events.claims_deleted(workspace, claims)

    async def _delete_claim(self, claim: Claim) -> None:
        resource = VIEWS[claim.kind].RESOURCE
        await self.client.delete(resource, Key("", claim.name), uid=claim.uid or None)

    # ---- nodes ----

    async def _reserve(self, workspace: Workspace, name: str) -> None:
        """Guarded by the resourceVersion, so that of two Workspaces only one gets the node."""
        node = self.caches.nodes.get(Key("", name))
        if node is None:
            raise Stale("NodeGone", f"node {name} is gone")
        await self._refuse_a_living_holder(workspace, node)
        patch = {
            "metadata": {
                "resourceVersion": node.metadata.resource_version,
                "labels": {labels.RESERVED_FOR: workspace.metadata.uid},
            }
        }
        await self._patch_node(workspace, name, patch)
        log.info("node reserved", node=name)
        self.events.node_reserved(workspace, name)

    async def _refuse_a_living_holder(self, workspace: Workspace, node: Node) -> None:
        """A holder that no cache shows may have been made since: the API server knows."""
        holder = node.metadata.labels.get(labels.RESERVED_FOR)
        if holder in (None, workspace.metadata.uid):
            return
        living = await self.client.list(metadata_only(Workspace.RESOURCE))
        if any(each.metadata.uid == holder for each in living.items):
            raise Stale("NodeTaken", f"node {node.metadata.name} has a living holder")

    async def _release(self, workspace: Workspace, names: tuple[str, ...]) -> None:
        for name in names:
            node = self.caches.nodes.get(Key("", name))
            if node is None:
                continue
            metadata = {
                "resourceVersion": node.metadata.resource_version,
                "labels": {labels.RESERVED_FOR: None},
            }
            await self._patch_node(workspace, name, {"metadata": metadata})
            log.info("node released", node=name)

    async def _label(self, workspace: Workspace, name: str) -> None:
        patch = {"metadata": {"labels": {labels.ACCELERATOR: labels.ACCELERATOR_NVIDIA}}}
        await self._patch_node(workspace, name, patch)

    async def _patch_node(self, workspace: Workspace, name: str, patch: dict[str, Any]) -> None:
        written = await self.client.merge_patch(Node.RESOURCE, Key("", name), patch)
        self.hold(workspace.key, self.caches.nodes, Key("", name), written.resource_version)


def _refused(model: Model, error: Rejected) -> Blocked:
    """Says which part of the Workspace the API server does not take."""
    if model.preset is None:
        said = f"the API server refuses inference.template: {error.message}"
        return Blocked(reasons.TEMPLATE_REJECTED, said)
    said = f"the API server refuses a volumeSource of inference.adapters: {error.message}"
    return Blocked(reasons.ADAPTER_UNUSABLE, said)


async def _all_of(calls: Iterable[Awaitable[None]]) -> None:
    """Makes calls at once and lets each end; raises the first failure then.

    A failed call does not cancel the others: what they do has been decided just as well.
    """
    failures: list[ControlError] = []

    async def one(call: Awaitable[None]) -> None:
        try:
            await call
        except ControlError as error:
            failures.append(error)

    async with asyncio.TaskGroup() as group:
        for call in calls:
            group.create_task(one(call))
    if failures:
        raise failures[0]
