"""Carries out the actions of a plan for a pool, one arm for each.

Invariant: every arm may run twice or be cut off anywhere.
"""

from collections.abc import Sequence
from typing import Any, assert_never

import structlog

from controlkit.clock import Clock
from controlkit.errors import Stale
from controlkit.kube.client import KubeClient
from controlkit.kube.objects import Key
from gpu_provisioner.azure.gateway import Gateway
from gpu_provisioner.binding import kind_served, made_for, owners_of
from gpu_provisioner.claims.dialect import Dialect
from gpu_provisioner.claims.refusals import Refusals
from gpu_provisioner.pools.actions import (
    Action,
    AwaitTurn,
    CreatePool,
    DeleteMachines,
    DeletePool,
    GrowPool,
    LetGo,
    ListMachines,
    MarkStarted,
    Remember,
    Unassign,
    Vouch,
)
from gpu_provisioner.pools.departures import Departures
from gpu_provisioner.pools.notes import Notes
from gpu_provisioner.pools.observe import PoolObserver
from gpuapis.core import Node
from gpuapis.labels import AGENT_POOL, ASSIGNED_POOL

log = structlog.get_logger(__name__)


class PoolExecutor:
    """Does what plans for pools ask for."""

    def __init__(
        self,
        *,
        client: KubeClient,
        gateway: Gateway,
        notes: Notes,
        observer: PoolObserver,
        refusals: Refusals,
        departures: Departures,
        dialects: Sequence[Dialect[Any]],
        clock: Clock,
    ) -> None:
        self._client = client
        self._gateway = gateway
        self._notes = notes
        self._observer = observer
        self._refusals = refusals
        self._departures = departures
        self._dialects = dialects
        self._clock = clock

    async def carry_out(self, name: str, action: Action) -> None:
        """Does one thing about the pool of that name.

        Raises:
            AzureError: Azure said no, or nothing.
            ControlError: the API server did.
        """
        match action:
            case MarkStarted(claims, at):
                await self._notes.mark(claims, name, at)
            case Unassign(claims):
                written = await self._notes.unassign(claims)
                log.warning("claims look for another pool", pool=name, claims=len(written))
            case Remember(claims, failure):
                for claim in claims:
                    self._refusals.note_creation(claim, failure)
            case LetGo(claims):
                for claim in claims:
                    self._departures.let_go(claim.uid)
            case Vouch():
                await self._vouch(action)
            case AwaitTurn() | CreatePool() | GrowPool():
                await self._add(action)
            case ListMachines() | DeleteMachines() | DeletePool():
                await self._remove(action)
            case _:
                assert_never(action)

    async def _add(self, action: AwaitTurn | CreatePool | GrowPool) -> None:
        match action:
            case AwaitTurn(pool):
                self._gateway.await_turn(pool)
            case CreatePool(spec):
                made = await self._gateway.create(spec)
                self._refusals.forget_pool(spec.name)
                size = spec.shape.vm_size
                log.info("pool accepted", pool=spec.name, size=size, count=made.count)
            case GrowPool(pool, count):
                await self._gateway.grow(pool, count)
                log.info("growth accepted", pool=pool.name, before=pool.count, count=count)
            case _:
                assert_never(action)

    async def _remove(self, action: ListMachines | DeleteMachines | DeletePool) -> None:
        match action:
            case ListMachines(pool):
                asked = self._clock.monotonic()
                machines = await self._gateway.machines(pool.name)
                self._observer.machines_told(pool, asked, machines)
            case DeleteMachines(pool, machines):
                await self._gateway.delete_machines(pool, machines)
                self._refusals.forget_pool(pool.name)
                log.info("deletion of machines accepted", pool=pool.name, machines=list(machines))
            case DeletePool(pool):
                await self._gateway.delete(pool)
                self._refusals.forget_pool(pool.name)
                log.info("pool deletion accepted", pool=pool.name)
            case _:
                assert_never(action)

    async def _vouch(self, action: Vouch) -> None:
        """Asks the API server itself: a cache may not know yet who wants a VM.

        Raises:
            Stale: somebody may.
        """
        name = action.pool.name
        kind = kind_served(action.pool)
        view = next((each.view for each in self._dialects if each.kind == kind), None)
        if view is None:
            raise Stale("KindNotServed", f"nobody can say whether a {kind} wants a VM of {name}")
        selector = f"{ASSIGNED_POOL}={name}"
        found = (await self._client.list(view, label_selector=selector)).items
        namesake = await self._client.get(view, Key("", name))
        for claim in (*found, *([namesake] if namesake is not None else [])):
            meta = claim.metadata
            here = meta.labels.get(ASSIGNED_POOL, meta.name) == name
            if here and meta.uid not in action.members and made_for(action.pool, meta.uid):
                raise Stale("UnknownClaim", f"claim {claim.key} may want a VM of {name}")
        nodes = await self._client.list(Node, label_selector=f"{AGENT_POOL}={name}")
        for node in nodes.items:
            if node.metadata.name in action.machines and any(
                uid in action.members for uid in owners_of(node)
            ):
                raise Stale("NodeTaken", f"node {node.metadata.name} has an owner")
