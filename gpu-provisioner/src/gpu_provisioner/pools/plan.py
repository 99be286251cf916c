"""Decides what to do about one pool: a pure function of what was observed.

Invariant: a pool comes to have one VM for each claim with a place in it. It is asked for with a
count, never with a difference; no PUT takes a VM away, for then Azure would choose which one;
single VMs are deleted by name, once their claims are done with them or nobody has a claim to them.
A pool that serves one claim is the case of one member, and goes as a whole.
"""

from datetime import timedelta
from typing import Final

from gpu_provisioner.azure.courses import COURSES
from gpu_provisioner.azure.errors import About, Failure, classify
from gpu_provisioner.azure.pools import Pool
from gpu_provisioner.binding import made_for, owned, pool_spec
from gpu_provisioner.claims.plan import hopeless
from gpu_provisioner.pools.actions import (
    Action,
    AwaitTurn,
    CreatePool,
    DeletePool,
    GrowPool,
    ListMachines,
    MarkStarted,
    Member,
    PoolPlan,
    PoolSeen,
    Remember,
    Unassign,
)
from gpu_provisioner.pools.removal import abandon, claims, depart, held_up, tenants, trim

CHECK_AGAIN: Final = 60.0
SOON: Final = 1.0

_FELL_SHORT: Final = frozenset({"capacity", "quota"})
"""Kinds of failure after which the VMs that were made are as good as any."""

_MARK_HOLDS: Final = timedelta(minutes=2)
"""How old the written start of a request may be when the request is sent."""


def decide(seen: PoolSeen) -> PoolPlan:
    """The next step for one pool."""
    if seen.view_age is None or seen.blind:
        return PoolPlan()
    if seen.pool is None:
        return _absent(seen)
    return _present(seen, seen.pool) if owned(seen.pool) else _strangers(seen)


def _present(seen: PoolSeen, pool: Pool) -> PoolPlan:
    match pool.state:
        case "InProgress":
            return abandon(seen, pool) or PoolPlan()
        case "Succeeded":
            return depart(seen, pool) or _grow(seen, pool) or trim(seen, pool)
        case "Failed":
            return _failed(seen, pool)
        case "Deleting":  # pragma: no branch  (no fifth state)
            return PoolPlan()


def _absent(seen: PoolSeen) -> PoolPlan:
    """There is no pool: ask for one for all that wait, unless Azure has said no lately."""
    waiting = [each for each in seen.members if each.stays and not each.claim.is_true("Launched")]
    able = [each for each in waiting if each.shape is not None]
    if not able or able[0].shape is None:
        return PoolPlan()
    shape = able[0].shape
    if others := [each for each in able if each.shape != shape]:
        return PoolPlan((Unassign(claims(others)),))
    if held_back := _refused(seen, able):
        return held_back
    if seen.crowded:
        limit = COURSES["limit"]
        failure = Failure("limit", f"{limit.summary} {limit.remedy}")
        return PoolPlan((Remember(claims(able), failure),), CHECK_AGAIN)
    spec = pool_spec(seen.name, shape, len(able), seen.now)
    return PoolPlan((AwaitTurn(seen.name), *_mark(seen, able), CreatePool(spec)))


def _refused(seen: PoolSeen, waiting: list[Member]) -> PoolPlan | None:
    """What a refusal makes of the wish for VMs; None when nothing is in the way."""
    refusals = [each.refused for each in waiting if each.refused is not None]
    if any(hopeless(each) for each in refusals):
        return PoolPlan()
    until = max((each.until for each in refusals), default=seen.now)
    if until > seen.now:
        return PoolPlan(look_again=(until - seen.now).total_seconds())
    return None


def _mark(seen: PoolSeen, waiting: list[Member]) -> tuple[Action, ...]:
    late = [each for each in waiting if _stale_mark(seen, each)]
    return (MarkStarted(claims(late), seen.now),) if late else ()


def _stale_mark(seen: PoolSeen, member: Member) -> bool:
    started = member.claim.started
    return started is None or not member.claim.assigned or seen.now - started > _MARK_HOLDS


def _strangers(seen: PoolSeen) -> PoolPlan:
    """The pool is another's: claims that can have another name for theirs look elsewhere."""
    movable = [each for each in seen.members if each.lacks and each.claim.name != seen.name]
    return PoolPlan((Unassign(claims(movable)),) if movable else ())


def _grow(seen: PoolSeen, pool: Pool) -> PoolPlan | None:
    """Adds the VMs that are missing; None when none is."""
    lacking = [each for each in seen.members if each.lacks and made_for(pool, each.claim.uid)]
    seats = sum(bool(each.node) for each in seen.members)
    need = len(lacking) - max(0, pool.count - seats)
    if need <= 0 or not pool.running:
        return None
    if held_back := _refused(seen, lacking):
        return held_back
    grow = GrowPool(pool, pool.count + need)
    return PoolPlan((AwaitTurn(seen.name), *_mark(seen, lacking), grow))


def _failed(seen: PoolSeen, pool: Pool) -> PoolPlan:
    """An operation on the pool failed: what works is kept, the rest is given up and tried anew."""
    about = About(pool.vm_size, seen.policy.region)
    failure = classify("pool", None, pool.phase, pool.error, about=about)
    mine = tenants(seen, pool)
    if pool.count > 1 and any(each.lacks for each in mine):
        if seen.joining:
            return PoolPlan(look_again=SOON)  # some have come, and are about to be bound
        if failure.kind in _FELL_SHORT and seen.machines is None:
            return PoolPlan((ListMachines(pool),))
    unserved = claims(_unserved(seen, mine, failure))
    remember = (Remember(unserved, failure),) if unserved else ()
    if len(unserved) < sum(each.stays or each.served for each in mine):
        if unserved:
            return PoolPlan((*remember, Unassign(unserved)))
        return depart(seen, pool) or trim(seen, pool)
    if not mine:
        return PoolPlan()
    # It may cost, so it goes at once; only then the failure is waited out.
    return held_up(seen) or PoolPlan((DeletePool(pool), *remember))


def _unserved(seen: PoolSeen, mine: list[Member], failure: Failure) -> list[Member]:
    """Who has no VM that works, nor one that has been made and is still to join."""
    without = [each for each in mine if each.stays and not each.served]
    if failure.kind not in _FELL_SHORT or seen.machines is None:
        return without
    on_their_way = len(seen.machines - {each.node for each in seen.members})
    return without[on_their_way:]
