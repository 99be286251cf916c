"""Puts together all that a decision on one pool depends on, from memory.

Invariant: nothing here waits for anybody.
"""

from controlkit.clock import Clock
from gpu_provisioner.azure.directory import PoolDirectory
from gpu_provisioner.azure.pools import Pool, Shape
from gpu_provisioner.binding import made_for, owned, shared
from gpu_provisioner.claims.actions import Policy
from gpu_provisioner.claims.claim import Claim
from gpu_provisioner.claims.refusals import Refusals
from gpu_provisioner.pools import window
from gpu_provisioner.pools.actions import Member, PoolSeen
from gpu_provisioner.pools.allot import MOST_POOLS
from gpu_provisioner.pools.bindings import Bindings
from gpu_provisioner.pools.departures import Departures
from gpu_provisioner.pools.removal import unwanted
from gpu_provisioner.pools.roster import Roster
from gpu_provisioner.pools.shapes import Shapes

_MACHINES_HOLD = 10.0
"""Seconds for which a list of VMs is good, if nothing happens to the pool."""


class PoolObserver:
    """Reads the roster, the directory, the nodes' bindings and what is remembered of each pool."""

    def __init__(
        self,
        *,
        roster: Roster,
        directory: PoolDirectory,
        bindings: Bindings,
        shapes: Shapes,
        refusals: Refusals,
        departures: Departures,
        policy: Policy,
        clock: Clock,
    ) -> None:
        self._roster = roster
        self._directory = directory
        self._bindings = bindings
        self._shapes = shapes
        self._refusals = refusals
        self._departures = departures
        self._policy = policy
        self._clock = clock
        self._machines: dict[str, tuple[Pool, float, frozenset[str]]] = {}
        self._unwanted: dict[str, float] = {}

    def observe(self, name: str) -> PoolSeen:
        """Everything that the decision on this pool depends on."""
        pool = self._directory.get(name)
        members = tuple(
            self._member(claim)
            for claim in self._roster.members(name)
            if not self._departures.gone(claim.uid)
        )
        tenants = [each for each in members if pool and made_for(pool, each.claim.uid)]
        return PoolSeen(
            name=name,
            now=self._clock.now(),
            pool=pool,
            members=members,
            machines=self._listed(name, pool),
            joining=self._bindings.joining(name),
            gathering=self._gathering(pool, tenants),
            unwanted_for=self._unwanted_for(name, pool, tenants),
            view_age=self._directory.age,
            blind=self._directory.trouble is not None,
            undeletable=self._refusals.deleting_pool(name),
            crowded=len(self._directory) >= MOST_POOLS,
            policy=self._policy,
        )

    def machines_told(self, pool: Pool, asked: float, machines: frozenset[str]) -> None:
        """Takes in Azure's list of a pool's VMs."""
        self._machines[pool.name] = (pool, asked, machines)

    def forget(self, name: str) -> None:
        """The pool is gone."""
        self._machines.pop(name, None)
        self._unwanted.pop(name, None)

    def _member(self, claim: Claim) -> Member:
        shape = self._shapes.of(claim)
        nodes = [node for node in self._bindings.bound(claim) if not node.deleting]
        launched = claim.is_true("Launched")
        # The VM of a claim that had its node may outlast the node's object.
        named = claim.seat if launched or claim.deleting is not None else ""
        return Member(
            claim=claim,
            shape=shape if isinstance(shape, Shape) else None,
            node=nodes[0].metadata.name if nodes else named,
            served=launched or any(node.ready for node in nodes),
            leaves=claim.deleting is not None and self._departures.asked(claim.uid) is not None,
            refused=self._refusals.creating(claim),
        )

    def _listed(self, name: str, pool: Pool | None) -> frozenset[str] | None:
        told = self._machines.get(name)
        if told is None or told[0] != pool:
            return None
        return told[2] if self._clock.monotonic() - told[1] < _MACHINES_HOLD else None

    def _gathering(self, pool: Pool | None, tenants: list[Member]) -> float:
        if pool is None or not shared(pool):
            return 0.0
        moments = [self._departures.asked(each.claim.uid) for each in tenants if each.leaves]
        arrivals = [moment for moment in moments if moment is not None]
        return window.left(arrivals, self._clock.monotonic(), len(tenants))

    def _unwanted_for(self, name: str, pool: Pool | None, tenants: list[Member]) -> float:
        now = self._clock.monotonic()
        idle = pool is not None and owned(pool) and pool.state in {"Succeeded", "Failed"}
        if pool is None or not idle or unwanted(pool, tenants) <= 0:
            self._unwanted.pop(name, None)
            return 0.0
        return now - self._unwanted.setdefault(name, now)
