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
from gpu_provisioner.azure.gateway import Gateway
from gpu_provisioner.binding import claim_name, pool_of
from gpu_provisioner.claims import metrics
from gpu_provisioner.claims.actions import (
    Action,
    ConfirmGone,
    DeletePool,
    Plan,
    Refusal,
    Release,
)
from gpu_provisioner.claims.dialect import Dialect, T
from gpu_provisioner.claims.events import failure_event
from gpu_provisioner.claims.execute import Executor, Work
from gpu_provisioner.claims.observe import Observer
from gpu_provisioner.claims.plan import SOON, decide
from gpu_provisioner.claims.refusals import Refusals
from gpu_provisioner.claims.status import news
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
        observer: Observer,
        executor: Executor,
        gateway: Gateway,
        refusals: Refusals,
        clock: Clock,
    ) -> None:
        self._dialect = dialect
        self._claims = claims
        self._nodes = nodes
        self._observer = observer
        self._executor = executor
        self._gateway = gateway
        self._refusals = refusals
        self._clock = clock
        self._uids: dict[Key, str] = {}
        self._controller = Controller(
            dialect.resource.plural, self.reconcile, workers=WORKERS, clock=clock
        )
        self._controller.watch(claims, lambda item: (item.key,))
        self._controller.watch(nodes, _claim_of)
        self._directory.subscribe(self._pools_changed)

    @property
    def _directory(self) -> PoolDirectory:
        return self._gateway.directory

    async def run(self) -> None:
        """Works until cancelled."""
        await self._controller.run()

    async def reconcile(self, key: Key) -> Result:
        """One pass.

        Raises:
            ControlError: the API server could not be asked; the queue tries again.
        """
        item = self._claims.get(key)
        claim = self._dialect.read(item) if item is not None else None
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
                await self._executor.carry_out(work, action)
            except AzureError as error:
                refusal = self._note(work, action, error.failure)
                again = decide(await self._observer.observe(work.claim))
                wait = self._until_next(again, action, refusal)
                return Plan((), again.progress, wait, again.fresh)
        return plan

    def _note(self, work: Work, action: Action, failure: Failure) -> Refusal:
        if failure.kind != "queued":  # which is our own doing, and no failure
            log.warning("azure refused", reason=failure.reason, detail=failure.message)
            metrics.FAILURES.labels(work.claim.kind, failure.reason).inc()
        match action:
            case DeletePool(pool):
                return self._refusals.note_deletion(work.claim, failure, pool)
            case ConfirmGone():
                return self._refusals.note_deletion(work.claim, failure)
            case _:
                return self._refusals.note_creation(work.claim, failure)

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
        await self._executor.write_status(work, status)
        metrics.observe_progress(work.claim, progress, now)
        event = failure_event(work.claim, progress)
        if event is not None:
            self._executor.tell(work, event)
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
        self._executor.forget(uid)
        self._gateway.puts.leave(key.name)

    def _pools_changed(self, names: frozenset[str] | None) -> None:
        over: frozenset[str] = frozenset()
        if self._directory.trouble is None:
            over = self._refusals.forgive() if names is None else self._refusals.try_once_more()
        if names is None:
            keys: Iterable[Key] = [item.key for item in self._claims.all()]
        else:
            waiting = [key for key, uid in self._uids.items() if uid in over] if over else []
            keys = [*waiting, *(Key("", claim_name(name)) for name in names)]
        for key in keys:
            if self._claims.get(key) is not None:
                self._controller.enqueue(key)


def _claim_of(node: Node) -> Iterable[Key]:
    pool = pool_of(node)
    return (Key("", claim_name(pool)),) if pool else ()
