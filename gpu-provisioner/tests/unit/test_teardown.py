"""How what was made for a claim is removed; numbers are those of the conformance list."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from provisioner_world.builders import NAME, NOW, SIZE, claim, node, pod, pool

from gpu_provisioner.azure.courses import Kind
from gpu_provisioner.azure.errors import Failure
from gpu_provisioner.azure.pools import Shape
from gpu_provisioner.claims.actions import (
    Action,
    ConfirmGone,
    Cordon,
    Evict,
    Leave,
    Observed,
    Refusal,
    Release,
    ReleaseNode,
)
from gpu_provisioner.claims.claim import Claim
from gpu_provisioner.claims.plan import decide
from gpuapis.labels import ASSIGNED_POOL, TERMINATION_TIMESTAMP

READY = ("Launched", "Registered", "Initialized")
CORDONED = node(cordoned=True)


def going(*true: str, **changes: Any) -> Claim:
    usual: dict[str, Any] = {"deleting": NOW - timedelta(seconds=5)}
    return claim(*true, **usual | changes)


def saw(**changes: Any) -> Observed:
    usual: dict[str, Any] = {
        "claim": going(*READY),
        "now": NOW,
        "wanted": Shape(SIZE),
        "place": NAME,
    }
    return Observed(**usual | changes)


def refusal(kind: Kind, left: float = 30.0, *, pool_busy: bool = False) -> Refusal:
    until = NOW + timedelta(seconds=left)
    return Refusal(Failure(kind, f"{kind}."), 1, until, pool_busy)


@dataclass(frozen=True)
class Case:
    seen: Observed
    does: tuple[Action, ...] = ()
    told: str = ""
    looks: dict[str, Any] = field(default_factory=dict)


CASES = {
    "a claim that we do not hold is not ours to end": Case(saw(claim=going(finalizers=()))),
    "30 a claim whose pool was never asked for goes at once": Case(
        saw(claim=going(started=None)), (Release(),)
    ),
    "30 it goes at once while Azure, that was seen, cannot be seen": Case(
        saw(claim=going(started=None), view_age=90.0, blind=Failure("transient", "down")),
        (Release(),),
    ),
    "30 it goes at once, Azure unseen, if there was nothing to ask for": Case(
        saw(claim=going(started=None), wanted="spec.requirements are empty.", view_age=None),
        (Release(),),
    ),
    "a claim without a mark may have the pool of an earlier release until Azure was seen": Case(
        saw(claim=going(started=None), view_age=None)
    ),
    "a pool that may exist holds the claim until Azure was seen": Case(saw(view_age=None)),
    "26 a claim tells why its pool cannot be removed": Case(
        saw(blind=Failure("no-cluster", "none")), told="ClusterNotFound"
    ),
    "29 a pool that is still being made is deleted at once": Case(
        saw(claim=going(), pool=pool("InProgress")),
        (Leave(NAME),),
        "PoolDeleting",
        {"look_again": 5.0},
    ),
    "29 a node that joins meanwhile does not hold that up": Case(
        saw(claim=going(), pool=pool("InProgress"), nodes=(node(registered=False),)),
        (Leave(NAME),),
        "PoolDeleting",
        {"look_again": 5.0},
    ),
    "31 new pods are kept away first, and those there asked to leave": Case(
        saw(pool=pool(), nodes=(node(),), pods=(pod(),)),
        (Cordon(node()), Evict(pod())),
        "Draining",
        {"look_again": 1.0},
    ),
    "31 an empty node is not believed empty before it is cordoned": Case(
        saw(pool=pool(), nodes=(node(),)), (Cordon(node()),), "Draining", {"look_again": 1.0}
    ),
    "31 pods that have not left are asked again": Case(
        saw(pool=pool(), nodes=(CORDONED,), pods=(pod(),)),
        (Evict(pod()),),
        "Draining",
        {"look_again": 1.0},
    ),
    "31 a pod that is leaving is waited for": Case(
        saw(pool=pool(), nodes=(CORDONED,), pods=(pod(deleting=20),)),
        told="Draining",
        looks={"look_again": 1.0},
    ),
    "31 when all have left the pool goes, and the node is let go": Case(
        saw(pool=pool(), nodes=(CORDONED,)),
        (Leave(NAME),),
        "PoolDeleting",
        {"look_again": 5.0},
    ),
    "32 after the grace period nothing is waited for": Case(
        saw(claim=going(*READY, grace=5.0), pool=pool(), nodes=(node(),), pods=(pod(),)),
        (Leave(NAME),),
        "PoolDeleting",
        {"look_again": 5.0},
    ),
    "32 before the end of the grace period pods are asked to leave": Case(
        saw(claim=going(*READY, grace=6.0), pool=pool(), nodes=(CORDONED,), pods=(pod(),)),
        (Evict(pod()),),
        "Draining",
        {"look_again": 1.0},
    ),
    "32 a deadline on the claim counts as well": Case(
        saw(
            claim=going(*READY, annotations={TERMINATION_TIMESTAMP: "2030-01-01T11:59:59Z"}),
            pool=pool(),
            nodes=(CORDONED,),
            pods=(pod(),),
        ),
        (Leave(NAME),),
        "PoolDeleting",
        {"look_again": 5.0},
    ),
    "a refusal to delete is told and waited out": Case(
        saw(pool=pool(), nodes=(CORDONED,), undeletable=refusal("forbidden")),
        does=(Leave(NAME),),
        told="AuthorizationFailed",
        looks={"look_again": 30.0, "fresh": 5.0},
    ),
    "an operation in the way is waited for": Case(
        saw(
            claim=going(),
            pool=pool("InProgress"),
            undeletable=refusal("conflict", pool_busy=True),
        ),
        does=(Leave(NAME),),
        told="OperationInProgress",
        looks={"look_again": 30.0, "fresh": 5.0},
    ),
    "once that operation has ended there is nothing to wait for": Case(
        saw(
            claim=going(),
            pool=pool("Failed"),
            undeletable=refusal("conflict", pool_busy=True),
        ),
        (Leave(NAME),),
        "PoolDeleting",
        {"look_again": 5.0},
    ),
    "an operation elsewhere in the cluster, whose end is not seen, is waited out": Case(
        saw(pool=pool(), nodes=(CORDONED,), undeletable=refusal("conflict")),
        does=(Leave(NAME),),
        told="OperationInProgress",
        looks={"look_again": 30.0, "fresh": 5.0},
    ),
    "after its time a refusal is forgotten": Case(
        saw(claim=going(), pool=pool("InProgress"), undeletable=refusal("conflict", 0)),
        (Leave(NAME),),
        "PoolDeleting",
        {"look_again": 5.0},
    ),
    "the claim goes when its pool says that its VM is gone": Case(
        saw(pool=pool(), nodes=(CORDONED,), gone=True), (ReleaseNode(CORDONED), Release())
    ),
    "a node whose object AKS has deleted is let go before the VM is gone": Case(
        saw(pool=pool("InProgress"), nodes=(node(cordoned=True, deleting=5),)),
        (Leave(NAME), ReleaseNode(node(cordoned=True, deleting=5))),
        "PoolDeleting",
        {"look_again": 5.0},
    ),
    "29 the claim is held while its pool is going, its node is not": Case(
        saw(pool=pool("Deleting"), nodes=(CORDONED,)), (ReleaseNode(CORDONED),), "PoolDeleting"
    ),
    "29 the claim goes when Azure says, live, that the pool is gone": Case(
        saw(pool=None, nodes=(CORDONED,)), (ConfirmGone(NAME), ReleaseNode(CORDONED), Release())
    ),
    "a claim that was launched by an older release is confirmed, too": Case(
        saw(claim=going(*READY, started=None)), (ConfirmGone(NAME), Release())
    ),
    "a node that we hold is let go even if no pool was ever asked for": Case(
        saw(claim=going(started=None), nodes=(node(),)),
        (ConfirmGone(NAME), ReleaseNode(node()), Release()),
    ),
    "a VM of a shared pool is told by its name": Case(
        saw(pool=pool(shared=True), claim=going(*READY, labels={ASSIGNED_POOL: NAME})),
        (Leave(NAME),),
        "PoolDeleting",
        {"look_again": 5.0},
    ),
    "a refusal to confirm is waited out": Case(
        saw(undeletable=refusal("transient", 2)),
        told="LaunchFailed",
        looks={"look_again": 2.0, "fresh": 5.0},
    ),
    "36 another's pool of our name is not touched": Case(
        saw(pool=pool(uid="uid-other"), nodes=(node(),)), (Release(),)
    ),
    "36 a system pool of our name is not touched": Case(saw(pool=pool(system=True)), (Release(),)),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_teardown(case: Case) -> None:
    plan = decide(case.seen)
    assert plan.actions == case.does
    ending = plan.progress.ending if plan.progress else None
    assert (ending.reason if ending else "") == case.told
    looks = {"look_again": plan.look_again, "fresh": plan.fresh}
    assert {name: value for name, value in looks.items() if value is not None} == case.looks


def test_what_was_true_of_the_claim_stays_told_while_it_ends() -> None:
    progress = decide(saw(pool=pool("Deleting"))).progress
    assert progress is not None
    assert (progress.launched, progress.registered, progress.initialized) == (None, None, None)


def test_the_pods_in_the_way_are_named() -> None:
    pods = tuple(pod(f"model-{number}") for number in range(5))
    progress = decide(saw(pool=pool(), nodes=(CORDONED,), pods=pods)).progress
    assert progress is not None
    assert progress.ending is not None
    assert progress.ending.message == (
        "5 pods have to leave first: models/model-0, models/model-1, models/model-2."
    )
