"""Decides what of a pool has to go: a pure function of what was observed.

Invariant: a VM goes by its name, once its claim is done with it, or when no claim has wanted it for
a while and the API server itself confirms that; a pool that serves one claim goes as a whole.
"""

from typing import Final

from gpu_provisioner.azure.pools import Pool
from gpu_provisioner.binding import made_for, shared
from gpu_provisioner.claims.claim import Claim
from gpu_provisioner.pools.actions import (
    DeleteMachines,
    DeletePool,
    LetGo,
    ListMachines,
    Member,
    PoolPlan,
    PoolSeen,
    Vouch,
)

UNWANTED: Final = 30.0
"""Seconds for which a VM may be nobody's, since a claim for it may be on its way."""


def abandon(seen: PoolSeen, pool: Pool) -> PoolPlan | None:
    """All that the pool is being made for are leaving: no need to wait until it is made."""
    young = pool.phase == "Creating" or not shared(pool)
    if not young or not _all_leave(seen, pool):
        return None
    return _delete_pool(seen, pool)


def depart(seen: PoolSeen, pool: Pool) -> PoolPlan | None:
    """Takes away the VMs of the claims that leave; None when none does."""
    leaving = [each for each in tenants(seen, pool) if each.leaves]
    if not leaving:
        return None
    if _all_leave(seen, pool) and not shared(pool):
        return _delete_pool(seen, pool)
    if refused := held_up(seen):
        return refused
    if seen.gathering > 0:
        return PoolPlan(look_again=seen.gathering)
    if seen.machines is None:
        return PoolPlan((ListMachines(pool),))
    return _take_away(seen, pool, leaving, seen.machines)


def _take_away(
    seen: PoolSeen, pool: Pool, leaving: list[Member], machines: frozenset[str]
) -> PoolPlan:
    gone, going = _settled(seen, leaving, machines)
    let_go = (LetGo(claims(gone)),) if gone else ()
    surplus = _surplus(seen, machines, len([each for each in leaving if not each.node]))
    if not going and not surplus:
        return PoolPlan(let_go)
    vouch = (_vouch(seen, pool, surplus),) if surplus else ()
    return PoolPlan((*let_go, *vouch, DeleteMachines(pool, (*going, *surplus))))


def _settled(
    seen: PoolSeen, leaving: list[Member], machines: frozenset[str]
) -> tuple[list[Member], list[str]]:
    """Of those that leave, whose VM is gone, and which VMs are still there."""
    spare = machines - {each.node for each in seen.members}
    wanting = sum(each.lacks for each in seen.members)
    # One that never got a node has had its share taken away when no VM is left over.
    gone = [
        each
        for each in leaving
        if (each.node not in machines if each.node else len(spare) <= wanting)
    ]
    return gone, sorted(each.node for each in leaving if each.node in machines)


def trim(seen: PoolSeen, pool: Pool) -> PoolPlan:
    """Takes away VMs that no claim wants, when that has been so for a while."""
    # A pool without any claim is the collector's, which may delete it as a whole.
    mine = tenants(seen, pool)
    if not mine or unwanted(pool, mine) <= 0:
        return PoolPlan()
    if seen.unwanted_for < UNWANTED:
        return PoolPlan(look_again=UNWANTED - seen.unwanted_for)
    if refused := held_up(seen):
        return refused
    if seen.machines is None:
        return PoolPlan((ListMachines(pool),))
    names = _surplus(seen, seen.machines, unwanted(pool, mine))
    if not names:
        return PoolPlan()
    return PoolPlan((_vouch(seen, pool, names), DeleteMachines(pool, names)))


def unwanted(pool: Pool, members: list[Member]) -> int:
    """How many VMs more than claims the pool has."""
    return pool.count - len(members)


def _all_leave(seen: PoolSeen, pool: Pool) -> bool:
    mine = tenants(seen, pool)
    return bool(mine) and all(each.leaves for each in mine)


def _delete_pool(seen: PoolSeen, pool: Pool) -> PoolPlan:
    return held_up(seen) or PoolPlan((DeletePool(pool),))


def held_up(seen: PoolSeen) -> PoolPlan | None:
    """Azure has just refused to delete; None when it may be asked again."""
    refused = seen.undeletable
    wait = refused.wait(seen.pool, seen.now) if refused else 0.0
    return PoolPlan(look_again=wait) if wait else None


def _surplus(seen: PoolSeen, machines: frozenset[str], most: int) -> tuple[str, ...]:
    """VMs that no claim has or waits for; the youngest first: likeliest not to have joined."""
    spare = sorted(machines - {each.node for each in seen.members})
    wanting = sum(each.lacks for each in seen.members)
    over = min(most, len(spare) - wanting)
    return tuple(reversed(spare[-over:])) if over > 0 else ()


def _vouch(seen: PoolSeen, pool: Pool, names: tuple[str, ...]) -> Vouch:
    return Vouch(pool, names, frozenset(each.claim.uid for each in seen.members))


def tenants(seen: PoolSeen, pool: Pool) -> list[Member]:
    """The members that the pool may have been made for."""
    return [each for each in seen.members if made_for(pool, each.claim.uid)]


def claims(members: list[Member]) -> tuple[Claim, ...]:
    """Their claims."""
    return tuple(each.claim for each in members)
