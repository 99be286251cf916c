"""One pass over one claim: observe, decide, carry out, report.

Invariant: no branching on the claim's state here; what Azure refuses becomes an observation, and
the decision is taken anew, so that its reason is on the claim before anything is waited for.
"""

from collections.abc import Iterable
from typing import Generic

import structlog

from controlkit.cache import Cache
from controlkit.clock import Clock
from controlkit.controller import Controller, Result
from controlkit.kube.objects import Key
from gpu_provisioner.azure.directory import PoolDirectory
from gpu_provisioner.azure.errors import AzureError, Failure
from gpu_provisioner.binding import pool_of
from gpu_provisioner.claims import metrics
from gpu_provisioner.claims.actions import Action, Plan, Refusal, Release
from gpu_provisioner.claims.dialect import Dialect, T
from gpu_provisioner.claims.events import failure_event
from gpu_provisioner.claims.execute import Executor, Work
from gpu_provisioner.claims.observe import Observer
from gpu_provisioner.claims.plan import SOON, decide
from gpu_provisioner.claims.refusals import Refusals
from gpu_provisioner.claims.status import news
from gpu_provisioner.pools.bindings import Bindings
from gpu_provisioner.pools.roster import Roster
from gpuapis.core import Node

WORKERS = 100
"""Passes at once. A pass may wait for one answer of Azure, and must not hold up the others."""

log = structlog.get_logger(__name__)


class ClaimController(Generic[T]):
    """Serves the claims of one dialect."""

    def __init__(
        self,
        dialect: Dialect[T],
        claims: Cache[T],
        nodes: Cache[Node],
        *,
        roster: Roster,
        bindings: Bindings,
        observer: Observer,
        executor: Executor,
        directory: PoolDirectory,
        refusals: Refusals,
        clock: Clock,
    ) -> None:
        self._dialect = dialect
        self._claims = claims
        self._nodes = nodes
        self._observer = observer
        self.executor = executor
        self._roster = roster
        self._bindings = bindings
        self._directory = directory
        self._refusals = refusals
        self._clock = clock
        self._uids: dict[Key, str] = {}
        self._controller = Controller(
            dialect.resource.plural, self.reconcile, workers=WORKERS, clock=clock
        )
        self._controller.watch(claims, lambda item: (item.key,))
        self._controller.watch(nodes, self._claims_of)
        roster.woken_by(dialect.kind, self._controller.enqueue)

    async def run(self) -> None:
        """Works until cancelled."""
        await self._controller.run()

    async def reconcile(self, key: Key) -> Result:
        """One pass.

        Raises:
            ControlError: the API server could not be asked; the queue tries again.
        """
        item = self._claims.get(key)
        claim = self._roster.named(self._dialect.kind, key) if item is not None else None
        if item is None or claim is None:
            self._forget(key)
            return Result()
        self._uids[key] = claim.uid

        work = Work(item, claim, self._dialect.resource)
        try:
            plan = await self._advance(work)
            if not any(isinstance(action, Release) for action in plan.actions):
                await self._report(work, plan)
        finally:
            self._await_own_writes(key, work)
        if plan.fresh is not None:
            self._directory.look_within(plan.fresh)
        return Result(after=plan.look_again)

    async def _advance(self, work: Work) -> Plan:
        """Carries out what is decided; returns the plan whose progress is to be told."""
        plan = decide(await self._observer.observe(work.claim))
        for action in plan.actions:
            try:
                await self.executor.carry_out(work, action)
            except AzureError as error:
                refusal = self._note(work, error.failure)
                again = decide(await self._observer.observe(work.claim))
                wait = self._until_next(again, action, refusal)
                return Plan((), again.progress, wait, again.fresh)
        return plan

    def _note(self, work: Work, failure: Failure) -> Refusal:
        if failure.kind != "queued":  # which is our own doing, and no failure
            log.warning("azure refused", reason=failure.reason, detail=failure.message)
            metrics.FAILURES.labels(work.claim.kind, failure.reason).inc()
        return self._refusals.note_deletion(work.claim, failure)

    def _until_next(self, again: Plan, refused: Action, refusal: Refusal) -> float | None:
        """Seconds until the next pass; one is needed for whatever the second plan wants done."""
        if not again.actions:
            return again.look_again
        if any(type(action) is type(refused) for action in again.actions):
            return max((refusal.until - self._clock.now()).total_seconds(), SOON)
        return SOON

    async def _report(self, work: Work, plan: Plan) -> None:
        progress, now = plan.progress, self._clock.now()
        if progress is None:
            return
        status = news(self._dialect, work.claim, progress, now)
        if status is None:
            return
        await self.executor.write_status(work, status)
        metrics.observe_progress(work.claim, progress, now)
        event = failure_event(work.claim, progress)
        if event is not None:
            self.executor.tell(work, event)
        if progress.bound is not None:
            self._refusals.forget(work.claim.uid)

    def _await_own_writes(self, key: Key, work: Work) -> None:
        if work.version != work.claim.version:
            self._controller.hold(key, self._claims, key, work.version)
        for name, version in work.nodes.items():
            self._controller.hold(key, self._nodes, Key("", name), version)

    def _forget(self, key: Key) -> None:
        uid = self._uids.pop(key, None)
        if uid is None:
            return  # it never was ours: a claim of the other kind may have this name
        self._refusals.forget(uid)
        self.executor.forget(uid)

    def _claims_of(self, node: Node) -> Iterable[Key]:
        concerned = self._bindings.concerned(node) if pool_of(node) else ()
        return [claim.key for claim in concerned if claim.kind == self._dialect.kind]
