"""One pass over one pool: observe, decide, carry out, and tell its claims.

Invariant: at most one hand is on a pool at a time, be it a pass or the giving out of places; what
Azure refuses is noted for the claims that wait for it before anything is waited for.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable

import structlog

from controlkit.clock import Clock
from controlkit.controller import Controller, Result
from controlkit.kube.objects import Key
from gpu_provisioner.azure.errors import AzureError, Failure
from gpu_provisioner.azure.gateway import Gateway
from gpu_provisioner.binding import place_of
from gpu_provisioner.claims import metrics
from gpu_provisioner.claims.claim import Claim
from gpu_provisioner.claims.refusals import Refusals
from gpu_provisioner.pools.actions import (
    Action,
    DeleteMachines,
    DeletePool,
    ListMachines,
    PoolPlan,
    PoolSeen,
)
from gpu_provisioner.pools.execute import PoolExecutor
from gpu_provisioner.pools.observe import PoolObserver
from gpu_provisioner.pools.plan import decide
from gpu_provisioner.pools.roster import Roster

WORKERS = 100
"""Passes at once. A pass may wait for one answer of Azure, and must not hold up the others."""

GATHER = 0.1
"""Seconds for which changes of claims are gathered: one of many claims is not looked at alone."""

SOON = 1.0

log = structlog.get_logger(__name__)


class PoolController:
    """Serves the pools, each for all of its claims."""

    def __init__(
        self,
        *,
        gateway: Gateway,
        roster: Roster,
        observer: PoolObserver,
        executor: PoolExecutor,
        refusals: Refusals,
        clock: Clock,
    ) -> None:
        self._gateway = gateway
        self._roster = roster
        self._observer = observer
        self.executor = executor
        self._refusals = refusals
        self._clock = clock
        self.locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._controller = Controller("pools", self.reconcile, workers=WORKERS, clock=clock)
        roster.subscribe(self._claim_changed)
        gateway.directory.subscribe(self._pools_changed)

    async def run(self) -> None:
        """Works until cancelled."""
        await self._controller.run()

    def look(self, pool: str, *, after: float = 0.0) -> None:
        """Has a pool looked at."""
        self._controller.enqueue(Key("", pool), after=after)

    async def reconcile(self, key: Key) -> Result:
        """One pass.

        Raises:
            ControlError: the API server could not be asked; the queue tries again.
        """
        name = key.name
        async with self.locks[name]:
            plan = await self._advance(name)
        if self._gateway.directory.get(name) is None and not self._roster.members(name):
            self._forget(name)
        return Result(after=plan.look_again)

    async def _advance(self, name: str) -> PoolPlan:
        while True:
            seen = self._observer.observe(name)
            plan = decide(seen)
            for action in plan.actions:
                try:
                    await self.executor.carry_out(name, action)
                except AzureError as error:
                    wait = self._refused(seen, action, error.failure)
                    return PoolPlan(look_again=wait)
            if plan.actions:
                self._roster.wake(each.claim for each in seen.members)
            if not any(isinstance(action, ListMachines) for action in plan.actions):
                # What else there is to do shows when the change does.
                return PoolPlan(look_again=SOON) if _goes_on(plan) else plan

    def _refused(self, seen: PoolSeen, action: Action, failure: Failure) -> float:
        """Notes what Azure said for all whom it concerns; returns when to look again."""
        if failure.kind != "queued":  # which is our own doing, and no failure
            log.warning(
                "azure refused", pool=seen.name, reason=failure.reason, detail=failure.message
            )
        now = self._clock.now()
        if isinstance(action, DeletePool | DeleteMachines | ListMachines):
            refusal = self._refusals.note_pool(seen.name, failure, seen.pool)
            metrics.FAILURES.labels("pool", failure.reason).inc()
            self._roster.wake(each.claim for each in seen.members)
            return max((refusal.until - now).total_seconds(), SOON)
        waiting = [each.claim for each in seen.members if each.stays and not each.served]
        until = [self._refusals.note_creation(claim, failure).until for claim in waiting]
        for claim in waiting:
            if failure.kind != "queued":
                metrics.FAILURES.labels(claim.kind, failure.reason).inc()
        self._roster.wake(waiting)
        return max((max(until, default=now) - now).total_seconds(), SOON)

    def _claim_changed(self, old: Claim | None, new: Claim | None) -> None:
        if old is not None and new is not None and _concern(old) == _concern(new):
            return
        for claim in (old, new):
            if claim is not None and (pool := place_of(claim)):
                if not self._roster.members(pool):
                    self._gateway.puts.leave(pool)
                self.look(pool, after=GATHER)

    def _pools_changed(self, names: frozenset[str] | None) -> None:
        directory = self._gateway.directory
        over: frozenset[str] = frozenset()
        if directory.trouble is None:
            over = self._refusals.forgive() if names is None else self._refusals.try_once_more()
        if names is None:
            concerned: Iterable[str] = {*self._roster.pools(), *(p.name for p in directory.all())}
            self._roster.wake(self._roster.all())
        else:
            concerned = names
            for name in names:
                self._roster.wake(self._roster.members(name))
        again = [claim for uid in over if (claim := self._roster.get(uid)) is not None]
        self._roster.wake(again)
        for name in {*concerned, *over, *(place_of(claim) for claim in again)} - {""}:
            self.look(name)

    def _forget(self, name: str) -> None:
        self._observer.forget(name)
        self._refusals.forget_pool(name)
        self._gateway.puts.leave(name)
        if not self.locks[name].locked():
            del self.locks[name]


def _goes_on(plan: PoolPlan) -> bool:
    return bool(plan.actions) and plan.look_again is None


def _concern(claim: Claim) -> tuple[object, ...]:
    """What of a claim its pool depends on."""
    return (
        place_of(claim),
        claim.deleting is not None,
        claim.is_true("Launched"),
        claim.seat,
        claim.generation,
    )
