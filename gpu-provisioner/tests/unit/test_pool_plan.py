"""What is decided about one pool and all of its claims."""

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
from provisioner_world.builders import NAME, NOW, SIZE, claim, pool

from gpu_provisioner.azure.courses import Kind
from gpu_provisioner.azure.errors import Failure
from gpu_provisioner.azure.pools import Pool, PoolState, Shape
from gpu_provisioner.binding import pool_spec
from gpu_provisioner.claims.actions import Refusal
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
    Member,
    PoolSeen,
    Remember,
    Unassign,
    Vouch,
)
from gpu_provisioner.pools.plan import decide
from gpuapis.labels import ASSIGNED_POOL

SHAPE = Shape(SIZE, most=1000)
FAILED = '{"code":"AllocationFailed","message":"none left"}'


def refusal(kind: Kind, *, attempts: int = 1, left: float = 30.0, busy: bool = False) -> Refusal:
    return Refusal(Failure(kind, f"{kind}."), attempts, NOW + timedelta(seconds=left), busy)


def member(number: int, *true: str, node: str = "", **changes: Any) -> Member:
    """A claim with its place; one that is bound has VM number `number`."""
    given = {name: changes.pop(name) for name in ("deleting", "started") if name in changes}
    made = claim(
        *true,
        uid=f"uid-{number}",
        name=f"claim{number}",
        labels={ASSIGNED_POOL: NAME},
        **{"started": 5.0, **given},
    )
    usual: dict[str, Any] = {"shape": SHAPE, "node": node, "served": bool(true)}
    return Member(made, **usual | changes)


def waiting(number: int, **changes: Any) -> Member:
    return member(number, **changes)


def bound(number: int, **changes: Any) -> Member:
    return member(number, "Launched", node=f"vm{number}", **changes)


def leaving(number: int, *, node: bool = True) -> Member:
    true = ("Launched",) if node else ()
    name = f"vm{number}" if node else ""
    return member(number, *true, node=name, deleting=NOW, leaves=True)


def draining(number: int) -> Member:
    return replace(leaving(number), leaves=False)


def shared(state: Any = "Succeeded", count: int = 2, **changes: Any) -> Pool:
    return pool(state, shared=True, count=count, **changes)


def claims(*members: Member) -> tuple[Any, ...]:
    return tuple(each.claim for each in members)


def vms(*numbers: int) -> frozenset[str]:
    return frozenset(f"vm{number}" for number in numbers)


@dataclass(frozen=True)
class Case:
    members: tuple[Member, ...] = ()
    pool: Pool | None = None
    does: tuple[Action, ...] = ()
    look: float | None = None
    seen: dict[str, Any] = field(default_factory=dict)


def created(count: int, shape: Shape = SHAPE) -> CreatePool:
    return CreatePool(pool_spec(NAME, shape, count, NOW))


TURN = AwaitTurn(NAME)
ONE, TWO, THREE = waiting(1), waiting(2), waiting(3)
LATE = waiting(4, started=121)
UNMARKED = waiting(5, started=None)
OTHER = waiting(6, shape=Shape("Standard_NC6s_v3", most=1000))
REFUSED = waiting(7, refused=refusal("quota"))
SPENT = waiting(8, refused=refusal("quota", left=0))
HOPELESS = waiting(9, refused=refusal("size", left=-99))
LOST = shared("Failed", 3, error=FAILED)


def vouch(made: Pool, names: tuple[str, ...], *members: Member) -> Vouch:
    return Vouch(made, names, frozenset(each.claim.uid for each in members))


CASES = {
    "all that have a place are asked for at once": Case(
        (ONE, TWO, THREE), None, (TURN, created(3))
    ),
    "one that has a place alone is the same": Case((ONE,), None, (TURN, created(1))),
    "a start that was written long ago is written anew": Case(
        (ONE, LATE, UNMARKED),
        None,
        (TURN, MarkStarted(claims(LATE, UNMARKED), NOW), created(3)),
    ),
    "claims that ask for something else look elsewhere": Case(
        (ONE, OTHER), None, (Unassign(claims(OTHER)),)
    ),
    "a claim that cannot be served is no reason for a VM": Case((waiting(1, shape=None),), None),
    "nobody waits": Case((bound(1), leaving(2)), None),
    "a claim that leaves is asked for no more": Case((ONE, leaving(2)), None, (TURN, created(1))),
    "a refusal is waited out by all": Case((ONE, REFUSED), None, look=30.0),
    "after a refusal they are asked for again": Case((ONE, SPENT), None, (TURN, created(2))),
    "what is hopeless for one of a shape is so for all": Case((ONE, HOPELESS), None),
    "a full cluster is told and looked at again": Case(
        (ONE,),
        None,
        (
            Remember(
                claims(ONE),
                Failure(
                    "limit",
                    "The cluster has as many agent pools or nodes as AKS allows. "
                    "Delete agent pools that are not needed any more.",
                ),
            ),
        ),
        60.0,
        {"crowded": True},
    ),
    "nothing is decided before Azure has told its pools": Case((ONE,), seen={"view_age": None}),
    "nothing is decided while Azure cannot be seen": Case((ONE,), seen={"blind": True}),
    "another's pool of that name is left alone, and another name found": Case(
        (ONE, TWO), shared(tags={}, labels={}), (Unassign(claims(ONE, TWO)),)
    ),
    "a pool that is being made is waited for": Case((ONE, TWO), shared("InProgress")),
    "a pool that all leave while it is made is given up": Case(
        (leaving(1, node=False), leaving(2, node=False)),
        shared("InProgress"),
        (DeletePool(shared("InProgress")),),
    ),
    "a pool that all but one leave while it is made goes on": Case(
        (leaving(1, node=False), TWO), shared("InProgress")
    ),
    "an operation that takes VMs away is not given up": Case(
        (leaving(1), leaving(2)), shared("InProgress", phase="DeletingMachines")
    ),
    "a pool with as many VMs as places is left alone": Case((bound(1), TWO), shared()),
    "a pool with fewer VMs than places grows": Case(
        (bound(1), TWO, THREE), shared(count=1), (TURN, GrowPool(shared(count=1), 3))
    ),
    "a VM that has joined nobody is one that is there": Case(
        (bound(1), TWO, THREE), shared(count=2), (TURN, GrowPool(shared(count=2), 3))
    ),
    "a growth that was refused is waited out": Case((bound(1), REFUSED), shared(count=1), look=30),
    "a pool that is stopped does not grow": Case((bound(1), TWO), shared(count=1, running=False)),
    "a claim whose VM is gone is no reason for another VM": Case(
        (bound(1), bound(2)), shared(count=1)
    ),
    "a claim that leaves waits for others that may leave, too": Case(
        (leaving(1), bound(2)), shared(), look=1.0, seen={"gathering": 1.0}
    ),
    "the VMs are listed before any is deleted": Case(
        (leaving(1), bound(2)), shared(), (ListMachines(shared()),)
    ),
    "the VM of a claim that leaves is deleted by its name": Case(
        (leaving(1), bound(2)),
        shared(),
        (DeleteMachines(shared(), ("vm1",)),),
        seen={"machines": vms(1, 2)},
    ),
    "those that leave together go with one request": Case(
        (leaving(1), bound(2), leaving(3)),
        shared(count=3),
        (DeleteMachines(shared(count=3), ("vm1", "vm3")),),
        seen={"machines": vms(1, 2, 3)},
    ),
    "one whose VM is gone may go, and does not keep the next one": Case(
        (leaving(1), leaving(2), bound(3)),
        shared(),
        (LetGo(claims(leaving(1))), DeleteMachines(shared(), ("vm2",))),
        seen={"machines": vms(2, 3)},
    ),
    "one that had no VM goes when none is left over": Case(
        (leaving(1, node=False), bound(2)),
        shared(count=1),
        (LetGo(claims(leaving(1, node=False))),),
        seen={"machines": vms(2)},
    ),
    "one that had no VM is held until one less is there, if nobody knows of its owner": Case(
        (leaving(1, node=False), bound(2)),
        shared(),
        (
            vouch(shared(), ("vm7",), leaving(1, node=False), bound(2)),
            DeleteMachines(shared(), ("vm7",)),
        ),
        seen={"machines": vms(2, 7)},
    ),
    "a VM that another one waits for is not left over": Case(
        (leaving(1, node=False), TWO),
        shared(count=1),
        (LetGo(claims(leaving(1, node=False))),),
        seen={"machines": vms(7)},
    ),
    "one whose pods have not left keeps its VM": Case((draining(1), bound(2)), shared()),
    "all leave a shared pool, which stays without VMs": Case(
        (leaving(1), leaving(2)),
        shared(),
        (DeleteMachines(shared(), ("vm1", "vm2")),),
        seen={"machines": vms(1, 2)},
    ),
    "a refusal to delete is waited out": Case(
        (leaving(1), bound(2)), shared(), look=30.0, seen={"undeletable": refusal("conflict")}
    ),
    "a VM that nobody wants is watched for a while": Case(
        (bound(1),), shared(), look=20.0, seen={"unwanted_for": 10.0}
    ),
    "then it is looked for": Case(
        (bound(1),), shared(), (ListMachines(shared()),), seen={"unwanted_for": 30.0}
    ),
    "and deleted when nobody knows of its owner": Case(
        (bound(1),),
        shared(),
        (vouch(shared(), ("vm9",), bound(1)), DeleteMachines(shared(), ("vm9",))),
        seen={"unwanted_for": 30.0, "machines": vms(1, 9)},
    ),
    "a pool without any claim is the collector's": Case(
        (), shared(), seen={"unwanted_for": 99.0, "machines": vms(1, 2)}
    ),
    "37 a pool that failed without any use is deleted and its failure waited out": Case(
        (ONE, TWO, THREE),
        LOST,
        (DeletePool(LOST), Remember(claims(ONE, TWO, THREE), Failure("capacity", "…"))),
        seen={"machines": vms()},
    ),
    "37 whether it is of use is asked first": Case((ONE, TWO), LOST, (ListMachines(LOST),)),
    "37 nodes that have joined are about to be bound": Case(
        (ONE, TWO), LOST, look=1.0, seen={"joining": 1}
    ),
    "37 VMs that came are waited for, and the rest looks elsewhere": Case(
        (ONE, TWO, THREE),
        LOST,
        (Remember(claims(TWO, THREE), Failure("capacity", "…")), Unassign(claims(TWO, THREE))),
        seen={"machines": vms(5)},
    ),
    "37 a growth that failed leaves those alone that are there": Case(
        (bound(1), TWO),
        LOST,
        (Remember(claims(TWO), Failure("capacity", "…")), Unassign(claims(TWO))),
        seen={"machines": vms(1)},
    ),
    "37 what is left of it is taken away like any VM that nobody wants": Case(
        (bound(1),),
        LOST,
        (vouch(LOST, ("vm9", "vm8"), bound(1)), DeleteMachines(LOST, ("vm9", "vm8"))),
        seen={"unwanted_for": 30.0, "machines": vms(1, 8, 9)},
    ),
    "37 a failed pool that cannot be deleted yet is deleted later": Case(
        (ONE,),
        LOST,
        look=15.0,
        seen={"machines": vms(), "undeletable": refusal("conflict", left=15)},
    ),
    "29 once the operation that was in the way has ended there is nothing to wait for": Case(
        (leaving(1, node=False),),
        shared("Failed", phase="Canceled"),
        (DeletePool(shared("Failed", phase="Canceled")),),
        seen={"undeletable": refusal("conflict", busy=True)},
    ),
    "a pool that is going is waited for": Case((ONE, bound(2)), shared("Deleting")),
}


def comparable(action: Action) -> Action:
    """Azure's words have tests of their own."""
    if isinstance(action, Remember) and action.failure.kind == "capacity":
        return Remember(action.claims, Failure("capacity", "…"))
    return action


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_pool_plan(case: Case) -> None:
    plan = decide(PoolSeen(NAME, NOW, case.pool, case.members, **case.seen))
    assert tuple(comparable(action) for action in plan.actions) == case.does
    assert plan.look_again == case.look


ALONE = Member(claim(labels={ASSIGNED_POOL: NAME}, started=5.0), Shape(SIZE))
GONE = replace(ALONE, claim=replace(ALONE.claim, deleting=NOW), leaves=True)


def test_the_pool_of_one_claim_goes_as_a_whole() -> None:
    states: tuple[PoolState, ...] = ("Succeeded", "InProgress", "Failed")
    for state in states:
        made = pool(state)
        assert decide(PoolSeen(NAME, NOW, made, (GONE,))).actions == (DeletePool(made),)


def test_the_failed_pool_of_one_claim_goes_without_a_question() -> None:
    made = pool("Failed", error=FAILED)
    first, second = decide(PoolSeen(NAME, NOW, made, (ALONE,))).actions
    assert first == DeletePool(made)
    assert isinstance(second, Remember)


def test_a_namesake_of_the_claim_that_a_pool_was_made_for_neither_grows_nor_ends_it() -> None:
    made = pool(uid="uid-of-another", count=0)
    assert not decide(PoolSeen(NAME, NOW, made, (ALONE,))).actions
    assert not decide(PoolSeen(NAME, NOW, made, (GONE,))).actions
