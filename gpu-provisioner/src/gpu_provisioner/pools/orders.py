"""Gives claims their places in pools: those of one shape that wait together get theirs together.

Invariant: a place is written on the claim before Azure is asked for a VM for it; so whatever ends
the process, the next one knows how many VMs each pool is to have. One pass looks at all shapes,
since turns and AKS's limits are for all of them.
"""

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

import structlog

from controlkit.clock import Clock
from controlkit.controller import Controller, Result
from controlkit.kube.objects import Key
from gpu_provisioner.azure.courses import COURSES
from gpu_provisioner.azure.errors import Failure, own_limit
from gpu_provisioner.azure.gateway import Gateway
from gpu_provisioner.azure.pools import Pool, Shape
from gpu_provisioner.binding import belongs_by_name, open_to, place_of
from gpu_provisioner.claims.claim import Claim
from gpu_provisioner.claims.refusals import OURS, Refusals
from gpu_provisioner.pools import window
from gpu_provisioner.pools.allot import MOST_NODES, MOST_POOLS, Limits, Offer, Share, allot
from gpu_provisioner.pools.bindings import Bindings
from gpu_provisioner.pools.controller import PoolController
from gpu_provisioner.pools.notes import Notes
from gpu_provisioner.pools.roster import Roster
from gpu_provisioner.pools.shapes import Shapes

ALL: Final = Key("", "orders")
LOOK_AGAIN: Final = 60.0
FRESH: Final = 1.0

log = structlog.get_logger(__name__)


@dataclass
class Group:
    """Claims of one shape that wait for places.

    Attributes:
        shape: theirs.
        claims: the longest waiting first.
        arrivals: when each was first seen waiting, in monotonic seconds.
    """

    shape: Shape
    claims: list[Claim] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)


class Orders:
    """Looks at all claims that wait."""

    def __init__(
        self,
        *,
        gateway: Gateway,
        roster: Roster,
        bindings: Bindings,
        shapes: Shapes,
        refusals: Refusals,
        pools: PoolController,
        notes: Notes,
        clock: Clock,
    ) -> None:
        self._gateway = gateway
        self._roster = roster
        self._bindings = bindings
        self._shapes = shapes
        self._refusals = refusals
        self._pools = pools
        self._notes = notes
        self._clock = clock
        self._waiting: dict[str, float] = {}
        self._controller = Controller("orders", self.reconcile, workers=1, clock=clock)
        roster.subscribe(self._claim_changed)
        gateway.directory.subscribe(lambda _names: self.look())

    async def run(self) -> None:
        """Works until cancelled."""
        await self._controller.run()

    def look(self, *, after: float = 0.0) -> None:
        """Has all claims that wait looked at."""
        self._controller.enqueue(ALL, after=after)

    async def reconcile(self, _key: Key) -> Result:
        """One pass.

        Raises:
            ControlError: the API server could not be asked; the queue tries again.
        """
        directory = self._gateway.directory
        if directory.age is None or directory.trouble is not None:
            return Result()
        await self._adopt()
        waits: list[float] = []
        for group in sorted(self._groups(), key=lambda each: min(each.arrivals)):
            left = window.left(group.arrivals, self._clock.monotonic(), group.shape.most)
            waits.append(left if left > 0 else await self._serve(group))
        return Result(after=min((wait for wait in waits if wait > 0), default=None))

    async def _adopt(self) -> None:
        """Claims keep what was made for them under their own name."""
        for uid in list(self._waiting):
            claim = self._roster.get(uid)
            pool = self._gateway.directory.get(claim.name) if claim is not None else None
            if claim is not None and pool is not None and belongs_by_name(pool, claim):
                await self._notes.adopt((claim,), pool.name)
                log.info("pool adopted", pool=pool.name)

    def _groups(self) -> list[Group]:
        groups: dict[str, Group] = {}
        now = self._clock.now()
        for uid, since in self._waiting.items():
            claim = self._roster.get(uid)
            shape = self._shapes.of(claim) if claim is not None else ""
            if claim is None or isinstance(shape, str):
                continue
            refused = self._refusals.creating(claim)
            if refused is not None and refused.failure.kind not in OURS:
                if refused.failure.final:
                    continue
                if refused.until > now:
                    self.look(after=(refused.until - now).total_seconds())
                    continue
            group = groups.setdefault(shape.key, Group(shape))
            group.claims.append(claim)
            group.arrivals.append(since)
        return list(groups.values())

    async def _serve(self, group: Group) -> float:
        """Gives places as far as there are any; returns seconds until the next look, 0.0 for none."""
        shape = group.shape
        if shape.most == 1 and (wait := self._in_line(group.claims[0])) > 0:
            return wait
        allotted = allot(len(group.claims), shape.most, self._offers(shape), self._limits())
        left = list(group.claims)
        for share in allotted.shares:
            if share.asks and (wait := self._gateway.puts.wait(shape.key)) > 0:
                puts = self._gateway.puts
                self._hold(left, own_limit(puts.rule, wait, puts.ahead(shape.key)))
                return wait
            batch, left = left[: share.count], left[share.count :]
            await self._place(share, batch, shape)
        if allotted.crowded:
            course = COURSES["limit"]
            self._hold(left, Failure("limit", f"{course.summary} {course.remedy}"))
            return LOOK_AGAIN
        if not left:
            self._gateway.puts.leave(shape.key)
        return 1.0 if left else 0.0

    async def _place(self, share: Share, batch: list[Claim], shape: Shape) -> None:
        name = share.pool or _new_name(shape, batch)
        if share.asks:
            # Before it is written: a claim that has its place leaves the line under its shape's name.
            self._gateway.puts.hand_over(shape.key, name)
        else:
            # The VMs that are counted on may have gone since Azure was last asked.
            self._gateway.directory.look_within(FRESH)
        async with self._pools.locks[name]:
            placed = await self._notes.assign(batch, name, self._clock.now())
        for claim in placed:
            self._refusals.forget_turn(claim.uid)
        if placed:
            log.info("places given", pool=name, claims=len(placed), asks=share.asks)
        self._pools.look(name)

    def _in_line(self, claim: Claim) -> float:
        """Seconds for which it is known that the claim's turn does not come."""
        refused = self._refusals.creating(claim)
        if refused is None or refused.failure.kind != "queued":
            return 0.0
        return max(0.0, (refused.until - self._clock.now()).total_seconds())

    def _hold(self, claims: list[Claim], failure: Failure) -> None:
        now = self._clock.now()
        for claim in claims:
            known = self._refusals.creating(claim)
            if known is None or known.failure.kind != failure.kind or known.until <= now:
                self._refusals.note_creation(claim, failure)
                self._roster.wake((claim,))

    def _offers(self, shape: Shape) -> list[Offer]:
        if shape.most == 1:
            return []  # it fits one claim, which has no pool yet
        offers = [
            self._offer(pool, shape)
            for pool in self._gateway.directory.all()
            if open_to(pool, shape) and pool.state == "Succeeded" and pool.running
        ]
        asked_for = (name for name in self._roster.pools() if self._to_be_made(name, shape))
        offers += [
            Offer(name, free=max(0, shape.most - len(self._roster.members(name))))
            for name in asked_for
        ]
        return [each for each in offers if not self._pools.locks[each.pool].locked()]

    def _offer(self, pool: Pool, shape: Shape) -> Offer:
        members = self._roster.members(pool.name)
        wanted = sum(
            1 for claim in members if claim.deleting is None or self._bindings.bound(claim)
        )
        free = max(0, pool.count - wanted)
        return Offer(pool.name, free, max(0, shape.most - max(pool.count, wanted)))

    def _to_be_made(self, name: str, shape: Shape) -> bool:
        """Whether a pool of that shape waits for its turn, and Azure has said nothing against it."""
        if self._gateway.directory.get(name) is not None:
            return False
        members = [claim for claim in self._roster.members(name) if claim.deleting is None]
        return bool(members) and all(
            self._shapes.of(claim) == shape
            and (
                (refused := self._refusals.creating(claim)) is None or refused.failure.kind in OURS
            )
            for claim in members
        )

    def _limits(self) -> Limits:
        pools = self._gateway.directory.all()
        coming = [name for name in self._roster.pools() if self._is_coming(name)]
        nodes = sum(pool.count for pool in pools)
        nodes += sum(len(self._roster.members(name)) for name in coming)
        return Limits(MOST_POOLS - len(pools) - len(coming), MOST_NODES - nodes)

    def _is_coming(self, name: str) -> bool:
        """Whether a pool that does not exist yet is going to."""
        if self._gateway.directory.get(name) is not None:
            return False
        members = self._roster.members(name)
        return any(claim.deleting is None and not claim.is_true("Launched") for claim in members)

    def _claim_changed(self, old: Claim | None, new: Claim | None) -> None:
        if new is not None and _waits(new):
            if new.uid not in self._waiting or old is None or old.generation != new.generation:
                self._waiting.setdefault(new.uid, self._clock.monotonic())
                self.look()
            return
        gone = new or old
        if gone is not None and self._waiting.pop(gone.uid, None) is not None:
            shape = self._shapes.of(gone)
            if isinstance(shape, Shape) and shape.most == 1:
                self._gateway.puts.leave(shape.key)
        if new is None and old is not None:
            self._shapes.forget(old.uid)


def _waits(claim: Claim) -> bool:
    return claim.held and claim.deleting is None and not place_of(claim)


def _new_name(shape: Shape, batch: list[Claim]) -> str:
    """A dedicated pool has its claim's name; a shared one gets one that was never used before."""
    if shape.most == 1:
        return batch[0].name
    seed = f"{shape.key}/{batch[0].uid}/{batch[0].version}"
    return f"gp{sha256(seed.encode()).hexdigest()[:10]}"
