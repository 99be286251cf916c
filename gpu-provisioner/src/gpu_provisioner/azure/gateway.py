"""Changes pools on behalf of claims, within AKS's limits and sure of what happened.

Invariant: once `create` has returned, the directory holds what Azure knows of the pool; a PUT that
nobody answered is looked up, not assumed. If that look-up fails, too, or is held back, nothing is
learned, and nothing is lost: a PUT never touches a pool that exists, so the next try finds it.
"""

from collections.abc import Awaitable, Sequence
from dataclasses import replace
from typing import TypeVar

from controlkit.clock import Clock
from gpu_provisioner.azure import metrics
from gpu_provisioner.azure.directory import PoolDirectory
from gpu_provisioner.azure.errors import AzureError, Failure, own_limit
from gpu_provisioner.azure.pools import Pool, Pools, PoolSpec
from gpu_provisioner.azure.turns import Turns
from gpu_provisioner.binding import made_at

T = TypeVar("T")

_ANSWER_HOLDS = 5.0
"""Seconds for which nobody needs to ask again whether a pool is gone."""


class Gateway:
    """The one way to Azure for everything that concerns a single pool."""

    def __init__(
        self, pools: Pools, clock: Clock, *, burst: int = 20, per_minute: float = 1.0
    ) -> None:
        """A gateway with full buckets.

        Args:
            pools: the cluster's pools.
            clock: measures the turns.
            burst: PUTs of agent pools that AKS takes at once.
            per_minute: PUTs that it takes a minute after that.
        """
        self._pools = pools
        self.puts = Turns(burst=burst, per_second=per_minute / 60, clock=clock)
        self._others = Turns(burst=60, per_second=1.0, clock=clock)
        self._clock = clock
        self._counted = False
        self._gone: dict[str, float] = {}
        self.directory = PoolDirectory(pools, self._others, clock)
        self.directory.subscribe(self._count_earlier)
        metrics.TOKENS.labels("put").set_function(lambda: self.puts.left)
        metrics.TOKENS.labels("other").set_function(lambda: self._others.left)

    def await_turn(self, name: str) -> None:
        """Takes a place in the line for making pools; returns when the turn has come.

        Raises:
            AzureError: it is not this pool's turn; says how long that will take.
        """
        if (wait := self.puts.wait(name)) > 0:
            raise AzureError(own_limit(self.puts.rule, wait, self.puts.ahead(name)))

    async def create(self, spec: PoolSpec) -> Pool:
        """Begins to make the pool, or finds the one that is there already; `await_turn` first.

        Returns:
            The pool as Azure knows it; whose it is, the caller must check.

        Raises:
            AzureError: there is no such pool, or nobody can say.
        """
        try:
            pool = await self._put(spec.name, self._pools.create(spec))
        except AzureError as error:
            self._heed(self.puts, error.failure)
            if error.failure.kind != "transient":
                raise
            # The request may have been carried out before the line was cut.
            pool = await self._find(spec.name)
            if pool is None:
                raise
        if pool is None:
            pool = await self._find(spec.name)
        if pool is None:
            raise AzureError(Failure("changed", f"Agent pool {spec.name} came and went."))
        self._gone.pop(spec.name, None)
        self.directory.learn(pool)
        return pool

    async def grow(self, pool: Pool, count: int) -> Pool:
        """Begins to add VMs to a pool until it has `count`; `await_turn` first.

        Count and etag are absolute, so a request that is repeated adds nothing.

        Raises:
            AzureError: Azure refused, or the pool is not as we saw it, or nobody can say.
        """
        self._take(self._others, pool.name)
        try:
            grown = await self._put(pool.name, self._pools.grow(pool.name, count, etag=pool.etag))
        except AzureError as error:
            self._heed(self.puts, error.failure)
            if error.failure.kind not in {"transient", "changed", "conflict", "gone"}:
                raise
            found = await self._find(pool.name)
            if found is None or found.count < count:
                raise
            return found
        self.directory.learn(grown)
        return grown

    async def machines(self, name: str) -> frozenset[str]:
        """The names of a pool's VMs, as Azure tells them now.

        Raises:
            AzureError: nobody can say.
        """
        self._take(self._others, name)
        try:
            return await self._pools.machines(name)
        except AzureError as error:
            self._heed(self._others, error.failure)
            raise

    async def delete_machines(self, pool: Pool, machines: Sequence[str]) -> None:
        """Begins to delete single VMs of a pool.

        Raises:
            AzureError: Azure refused, or nobody can say; asking again does no harm.
        """
        self._take(self._others, pool.name)
        try:
            await self._pools.delete_machines(pool.name, machines)
        except AzureError as error:
            self._heed(self._others, error.failure)
            if error.failure.kind != "throttled":
                await self._find(pool.name)
            raise
        left = max(0, pool.count - len(machines))
        self.directory.learn(
            replace(pool, state="InProgress", phase="DeletingMachines", count=left)
        )

    async def delete(self, pool: Pool) -> None:
        """Begins to delete the pool; one that is being created is told to give up first.

        Raises:
            AzureError: Azure refused, or the pool is not the one that we saw.
        """
        self._take(self._others, pool.name)
        try:
            found = await self._pools.delete(pool.name, etag=pool.etag)
        except AzureError as error:
            self._heed(self._others, error.failure)
            if error.failure.kind == "gone":
                self.directory.forget(pool.name)
                return
            if error.failure.kind == "changed":
                await self._find(pool.name)
            if error.failure.kind == "conflict" and pool.state == "InProgress":
                await self._abort(pool.name)
            raise
        if found:
            self.directory.learn(_deleting(pool))
        else:
            self.directory.forget(pool.name)

    async def confirm_gone(self, name: str) -> None:
        """Returns when Azure says, now, that there is no such pool.

        All that ask within a few seconds share one answer: a pool's claims often go together.

        Raises:
            AzureError: the pool is still there, or nobody can say.
        """
        if self._clock.monotonic() - self._gone.get(name, -_ANSWER_HOLDS) < _ANSWER_HOLDS:
            return
        pool = await self._find(name)
        if pool is not None:
            raise AzureError(
                Failure("changed", f"Agent pool {name} is still there ({pool.phase}).")
            )

    async def _find(self, name: str) -> Pool | None:
        self._take(self._others, name)
        try:
            pool = await self._pools.get(name)
        except AzureError as error:
            self._heed(self._others, error.failure)
            raise
        if pool is None:
            self._gone = {name: self._clock.monotonic(), **self._lately_gone()}
            self.directory.forget(name)
        else:
            self._gone.pop(name, None)
            self.directory.learn(pool)
        return pool

    def _lately_gone(self) -> dict[str, float]:
        oldest = self._clock.monotonic() - _ANSWER_HOLDS
        return {name: moment for name, moment in self._gone.items() if moment > oldest}

    async def _abort(self, name: str) -> None:
        self._take(self._others, name)
        try:
            await self._pools.abort(name)
        except AzureError as error:
            self._heed(self._others, error.failure)
            raise

    def _count_earlier(self, _changed: frozenset[str] | None) -> None:
        """AKS's bucket does not start full because we start: pools tell when they were asked for."""
        if self._counted or not self.directory.known:
            return
        self._counted = True
        made = (made_at(pool) for pool in self.directory.all())
        now = self._clock.now()
        self.puts.replay((now - moment).total_seconds() for moment in made if moment is not None)

    async def _put(self, name: str, request: Awaitable[T]) -> T:
        self.puts.take(name)
        try:
            return await request
        finally:
            self.puts.answered()

    def _take(self, turns: Turns, name: str) -> None:
        wait = turns.wait(name)
        if wait > 0:
            raise AzureError(own_limit(turns.rule, wait, turns.ahead(name)))
        turns.take(name)

    def _heed(self, turns: Turns, failure: Failure) -> None:
        """What AKS asks of one caller holds for all."""
        if failure.kind == "throttled":
            turns.pause(failure.wait(1))


def _deleting(pool: Pool) -> Pool:
    """The pool as it is once AKS has accepted to delete it."""
    return replace(pool, state="Deleting", phase="Deleting", etag="")
