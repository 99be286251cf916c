"""What is decided about a claim that is wanted; numbers are those of the conformance list."""

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
from provisioner_world.builders import (
    GPU_TAINT,
    NAME,
    NOW,
    SIZE,
    claim,
    condition,
    node,
    pool,
)

from gpu_provisioner.azure.courses import COURSES, Kind
from gpu_provisioner.azure.errors import Failure
from gpu_provisioner.azure.pools import Shape
from gpu_provisioner.claims.actions import (
    Action,
    Bind,
    DeleteClaim,
    Hold,
    MarkInitialized,
    Observed,
    Plan,
    Policy,
    Refusal,
    RegisterNode,
    ReleaseNode,
)
from gpu_provisioner.claims.claim import Taint
from gpu_provisioner.claims.plan import decide
from gpu_provisioner.claims.progress import DONE
from gpuapis.labels import ASSIGNED_NODE, ASSIGNED_POOL, CAPACITY_TYPE, INSTANCE_TYPE

WANTED = Shape(SIZE)
LAUNCHED = ("Launched",)
REGISTERED = ("Launched", "Registered")
READY = ("Launched", "Registered", "Initialized")
STARTUP = Taint("gpu-driver", "", "NoSchedule")
MARK = Policy(on_timeout="mark")
HAND_BACK = Policy(on_insufficient_capacity="delete")


def saw(**changes: Any) -> Observed:
    usual: dict[str, Any] = {"claim": claim(), "now": NOW, "wanted": WANTED, "place": NAME}
    return Observed(**usual | changes)


def refusal(kind: Kind, *, attempts: int = 1, left: float = 30.0) -> Refusal:
    return Refusal(Failure(kind, f"{kind}."), attempts, NOW + timedelta(seconds=left))


@dataclass(frozen=True)
class Case:
    seen: Observed
    does: tuple[Action, ...] = ()
    told: tuple[str, str, str] = ("", "", "")
    looks: dict[str, Any] = field(default_factory=dict)


def reasons(plan: Plan) -> tuple[str, str, str]:
    progress = plan.progress
    if progress is None:
        return ("", "", "")
    steps = (progress.launched, progress.registered, progress.initialized)
    names = ["-" if s is None else s.reason or s.state for s in steps]
    return (names[0], names[1], names[2])


NOT_YET = ("NotLaunched", "NotLaunched")
BOUND = claim(annotations={ASSIGNED_NODE: "node-1"})
LOST_POOL = pool("Failed", error='{"code":"AllocationFailed","message":"none left"}')

CASES = {
    "2 the finalizer comes before anything that costs": Case(
        saw(claim=claim(finalizers=(), started=None)),
        (Hold({INSTANCE_TYPE: SIZE, CAPACITY_TYPE: "on-demand"}),),
    ),
    "5 6 7 a claim that does not say what to make is told so and costs nothing": Case(
        saw(wanted="spec.requirements are empty."), told=("InvalidRequest", *NOT_YET)
    ),
    "a claim waits until Azure has told its pools": Case(saw(view_age=None)),
    "25 a claim tells why Azure cannot be seen": Case(
        saw(blind=Failure("credentials", "no")), told=("AuthorizationFailed", *NOT_YET)
    ),
    "a claim without a place is about to get one": Case(saw(place="")),
    "a claim without a place tells why it gets none": Case(
        saw(place="", refused=refusal("limit")),
        told=("PoolLimitReached", *NOT_YET),
        looks={"look_again": 30.0},
    ),
    "3 a claim with a place waits until Azure has been asked": Case(
        saw(), told=("PoolCreating", *NOT_YET)
    ),
    "21 a spent quota is waited out": Case(
        saw(refused=refusal("quota", left=300)),
        told=("QuotaExceeded", *NOT_YET),
        looks={"look_again": 300.0},
    ),
    "21 a spent quota is told until Azure has said otherwise": Case(
        saw(refused=refusal("quota", left=0)),
        told=("QuotaExceeded", *NOT_YET),
        looks={"look_again": 1.0},
    ),
    "22 a size that is not offered is never asked for again": Case(
        saw(refused=refusal("size", left=-9999)), told=("InstanceTypeUnavailable", *NOT_YET)
    ),
    "23 a turn that is far off is told": Case(
        saw(refused=refusal("queued", left=120)),
        told=("Throttled", *NOT_YET),
        looks={"look_again": 120.0},
    ),
    "25 what a list can disprove is soon asked about again": Case(
        saw(refused=refusal("credentials", left=60)),
        told=("AuthorizationFailed", *NOT_YET),
        looks={"look_again": 60.0, "fresh": 5.0},
    ),
    "49 one passing fault is nobody's business": Case(
        saw(refused=refusal("transient", left=1)),
        told=("PoolCreating", *NOT_YET),
        looks={"look_again": 1.0},
    ),
    "the third passing fault in a row is told": Case(
        saw(refused=refusal("transient", attempts=3, left=4)),
        told=("LaunchFailed", *NOT_YET),
        looks={"look_again": 4.0},
    ),
    "sold out is waited out": Case(
        saw(refused=refusal("capacity", left=60)),
        told=("InsufficientCapacity", *NOT_YET),
        looks={"look_again": 60.0},
    ),
    "sold out hands the claim back where the operator wants that": Case(
        saw(refused=refusal("capacity"), policy=HAND_BACK),
        (DeleteClaim("InsufficientCapacity", "capacity."),),
    ),
    "two VMs that did not become nodes may be bad luck": Case(
        saw(refused=refusal("bootstrap", attempts=2, left=0)),
        told=("NodeBootstrapFailed", *NOT_YET),
        looks={"look_again": 1.0},
    ),
    "three VMs that did not become nodes are enough": Case(
        saw(refused=refusal("bootstrap", attempts=3, left=0)),
        told=("NodeBootstrapFailed", *NOT_YET),
    ),
    "another's pool of our name is left alone": Case(
        saw(pool=pool(uid="uid-other")),
        told=("InvalidRequest", *NOT_YET),
        looks={"look_again": 60.0, "fresh": 60.0},
    ),
    "38 a pool of an earlier claim that is going is waited for": Case(
        saw(pool=pool("Deleting", uid="uid-earlier")), told=("OperationInProgress", *NOT_YET)
    ),
    "a pool that is being made is waited for": Case(
        saw(pool=pool("InProgress")),
        told=("PoolCreating", *NOT_YET),
        looks={"look_again": 840.0},
    ),
    "a node that joins early is bound at once, and the end of the operation looked for": Case(
        saw(pool=pool("InProgress"), nodes=(node(registered=False, ready=False),)),
        (
            Bind(node(registered=False, ready=False)),
            RegisterNode(node(registered=False, ready=False)),
        ),
        ("PoolCreating", *NOT_YET),
        {"look_again": 1.0, "fresh": 1.0},
    ),
    "a node that is bound already is not written again": Case(
        saw(claim=BOUND, pool=pool("InProgress"), nodes=(node(ready=False),)),
        told=("PoolCreating", *NOT_YET),
        looks={"look_again": 1.0, "fresh": 1.0},
    ),
    "a node that works is enough, whatever else the operation on its pool is about": Case(
        saw(pool=pool("InProgress", phase="Scaling"), nodes=(node(registered=False),)),
        (Bind(node(registered=False)), RegisterNode(node(registered=False))),
        ("done", "done", "NodeNotReady"),
    ),
    "a node that works is enough, even if the operation has failed": Case(
        saw(claim=BOUND, pool=LOST_POOL, nodes=(node(),)), told=("done", "done", "done")
    ),
    "a node of an earlier try that is leaving does not keep the next one from being bound": Case(
        saw(
            claim=BOUND,
            pool=pool("InProgress"),
            nodes=(node(deleting=5), node("node-2", registered=False, ready=False)),
        ),
        (
            Bind(node("node-2", registered=False, ready=False)),
            RegisterNode(node("node-2", registered=False, ready=False)),
        ),
        ("PoolCreating", *NOT_YET),
        {"look_again": 1.0, "fresh": 1.0},
    ),
    "the node of a pool that failed is let go with it": Case(
        saw(pool=LOST_POOL, nodes=(node(deleting=5),)),
        (ReleaseNode(node(deleting=5)),),
        ("InsufficientCapacity", *NOT_YET),
        {"look_again": 840.0},
    ),
    "the node of a pool that failed is let go while the pool is going": Case(
        saw(pool=pool("Deleting"), nodes=(node(deleting=5),)),
        (ReleaseNode(node(deleting=5)),),
        ("PoolCreating", *NOT_YET),
    ),
    "the node of a pool that failed is let go while the next try is waited for": Case(
        saw(refused=refusal("quota"), nodes=(node(deleting=5),)),
        (ReleaseNode(node(deleting=5)),),
        ("QuotaExceeded", *NOT_YET),
        {"look_again": 30.0},
    ),
    "a node that nobody deletes, or that we do not hold, is not touched": Case(
        saw(
            refused=refusal("quota"),
            nodes=(node(), node("node-2", registered=False, deleting=5)),
        ),
        told=("QuotaExceeded", *NOT_YET),
        looks={"look_again": 30.0},
    ),
    "28 a pool that is never made is given up": Case(
        saw(claim=claim(started=900), pool=pool("InProgress")),
        (
            DeleteClaim(
                "LaunchTimeout", f"AKS has not made agent pool {NAME} (Creating) within 15 min."
            ),
        ),
    ),
    "28 a pool that is never made is marked where the operator wants that": Case(
        saw(claim=claim(started=900), pool=pool("InProgress"), policy=MARK),
        told=("LaunchFailed", *NOT_YET),
    ),
    "37 a pool that failed is told": Case(
        saw(pool=LOST_POOL),
        told=("InsufficientCapacity", *NOT_YET),
        looks={"look_again": 840.0},
    ),
    "27 a VM that never joins is given up, whatever its pool says": Case(
        saw(claim=claim(started=900), pool=LOST_POOL),
        (
            DeleteClaim(
                "RegistrationTimeout",
                f"The VM of agent pool {NAME}, which failed, has not become a node within 15 min.",
            ),
        ),
    ),
    "sold out while it was made hands the claim back where the operator wants that": Case(
        saw(pool=LOST_POOL, refused=refusal("capacity"), policy=HAND_BACK),
        (DeleteClaim("InsufficientCapacity", "capacity."),),
    ),
    "a canceled pool is told": Case(
        saw(pool=pool("Failed", phase="Canceled")),
        told=("OperationInProgress", *NOT_YET),
        looks={"look_again": 840.0},
    ),
    "a pool that somebody deletes is made again": Case(
        saw(pool=pool("Deleting")), told=("PoolCreating", *NOT_YET)
    ),
    "a failed pool that goes keeps telling its failure": Case(
        saw(pool=pool("Deleting"), refused=refusal("quota")), told=("QuotaExceeded", *NOT_YET)
    ),
    "a pool without its node is waited for": Case(
        saw(pool=pool()), told=("WaitingForNode", *NOT_YET), looks={"look_again": 840.0}
    ),
    "a pool that is stopped says so": Case(
        saw(pool=pool(running=False)),
        told=("WaitingForNode", *NOT_YET),
        looks={"look_again": 840.0},
    ),
    "12 a node without a provider ID is waited for": Case(
        saw(pool=pool(), nodes=(node(provider_id=""),)),
        told=("WaitingForNode", *NOT_YET),
        looks={"look_again": 840.0},
    ),
    "27 a VM that never joins is given up": Case(
        saw(claim=claim(started=900), pool=pool()),
        (
            DeleteClaim(
                "RegistrationTimeout",
                f"The VM of agent pool {NAME} has not become a node of the cluster within 15 min.",
            ),
        ),
    ),
    "27 a VM that never joins is marked where the operator wants that": Case(
        saw(claim=claim(started=900), pool=pool(), policy=MARK), told=("LaunchFailed", *NOT_YET)
    ),
    "13 two nodes are one too many": Case(
        saw(pool=pool(), nodes=(node("node-1"), node("node-2"))),
        told=("WaitingForNode", "MultipleNodesFound", "NotLaunched"),
        looks={"look_again": 840.0},
    ),
    "9 14 the node takes over what the claim asks for": Case(
        saw(pool=pool(), nodes=(node(registered=False),)),
        (Bind(node(registered=False)), RegisterNode(node(registered=False))),
        ("done", "done", "NodeNotReady"),
    ),
    "a node whose owner was another claim is registered again": Case(
        saw(claim=claim(*READY), pool=pool(), nodes=(node(owner="uid-0"),)),
        (RegisterNode(node(owner="uid-0")),),
        ("done", "done", "done"),
    ),
    "15 a node that is not ready is not initialized": Case(
        saw(claim=claim(*REGISTERED), pool=pool(), nodes=(node(ready=False),)),
        told=("done", "done", "NodeNotReady"),
    ),
    "16 a startup taint is waited for": Case(
        saw(
            claim=claim(*REGISTERED, startup_taints=(STARTUP,)),
            pool=pool(),
            nodes=(node(taints=(STARTUP,)),),
        ),
        told=("done", "done", "StartupTaintsExist"),
    ),
    "17 an ephemeral taint is waited for": Case(
        saw(
            claim=claim(*REGISTERED),
            pool=pool(),
            nodes=(node(taints=(Taint("node.kubernetes.io/not-ready", "", "NoExecute"),)),),
        ),
        told=("done", "done", "KnownEphemeralTaintsExist"),
    ),
    "18 a GPU that was asked for is waited for": Case(
        saw(claim=claim(*REGISTERED), pool=pool(), nodes=(node(gpu=0),)),
        told=("done", "done", "ResourceNotRegistered"),
    ),
    "19 storage is not waited for": Case(
        saw(
            claim=claim(*REGISTERED, requests={"storage": "9Ti", "cpu": "0"}),
            pool=pool(),
            nodes=(node(gpu=0),),
        ),
        told=("done", "done", "done"),
    ),
    "a node that can be used is marked": Case(
        saw(claim=claim(*REGISTERED), pool=pool(), nodes=(node(initialized=False),)),
        (MarkInitialized(node(initialized=False)),),
        ("done", "done", "done"),
    ),
    "a claim that has all it wanted is left alone": Case(
        saw(claim=claim(*READY), pool=pool(), nodes=(node(),)), told=("done", "done", "done")
    ),
    "what Azure says of the pool does not disturb a claim that has its node": Case(
        saw(claim=claim(*READY), pool=LOST_POOL, nodes=(node(),)), told=("done", "done", "done")
    ),
    "34 a claim that has its node outlives the sight of its pool": Case(
        saw(claim=claim(*READY), pool=None, view_age=None, nodes=(node(),)),
        told=("done", "done", "done"),
    ),
    "a claim whose node is not there says so": Case(
        saw(claim=claim(*REGISTERED), pool=pool()), told=("done", "-", "-")
    ),
    "a claim whose node went before it was registered says so": Case(
        saw(claim=claim(*LAUNCHED), pool=pool()), told=("done", "NodeNotFound", "-")
    ),
    "13 two strangers in place of the bound node are one too many": Case(
        saw(claim=claim(*LAUNCHED), pool=pool(), nodes=(node("node-8"), node("node-9"))),
        told=("done", "MultipleNodesFound", "-"),
    ),
    "48 the bound node is kept while a surge adds another": Case(
        saw(
            claim=claim(*READY),
            pool=pool("InProgress", phase="UpgradingNodeImageVersion"),
            nodes=(node(), node("node-2", registered=False)),
        ),
        told=("done", "done", "done"),
    ),
    "48 a surge that removes the bound node binds the claim to the new one": Case(
        saw(
            claim=claim(*READY),
            pool=pool("InProgress", phase="UpgradingNodeImageVersion"),
            nodes=(node(deleting=5), node("node-2", registered=False)),
        ),
        (
            ReleaseNode(node(deleting=5)),
            Bind(node("node-2", registered=False)),
            RegisterNode(node("node-2", registered=False)),
        ),
        ("done", "done", "done"),
    ),
    "48 a leaving node that nobody holds needs no release": Case(
        saw(
            claim=claim(*READY),
            pool=pool("InProgress", phase="Upgrading"),
            nodes=(node(deleting=5, registered=False), node("node-2")),
        ),
        does=(Bind(node("node-2")),),
        told=("done", "done", "done"),
    ),
    "33 a deleted node takes its claim along": Case(
        saw(claim=claim(*READY), pool=pool(), nodes=(node(deleting=5),), view_age=1.0),
        (DeleteClaim("NodeDeleted", "Node node-1 was deleted."),),
    ),
    "33 a deleted node is not believed before Azure was asked about an upgrade": Case(
        saw(claim=claim(*READY), pool=pool(), nodes=(node(deleting=5),), view_age=30.0),
        looks={"look_again": 1.0, "fresh": 0.0},
    ),
    "33 a deleted node is not believed while Azure has told nothing": Case(
        saw(claim=claim(*READY), nodes=(node(deleting=5),), view_age=None),
        looks={"look_again": 1.0, "fresh": 0.0},
    ),
    "33 a node deleted by a clock ahead of ours is believed after a fresh look": Case(
        saw(claim=claim(*READY), pool=pool(), nodes=(node(deleting=-3_600),), view_age=1.5),
        (DeleteClaim("NodeDeleted", "Node node-1 was deleted."),),
    ),
    "48 a bound node that leaves while another has joined was replaced": Case(
        saw(claim=claim(*READY), pool=pool(), nodes=(node(deleting=5), node("node-2"))),
        (ReleaseNode(node(deleting=5)), Bind(node("node-2"))),
        ("done", "done", "done"),
    ),
    "48 an upgrade may take the node away before the next one comes": Case(
        saw(
            claim=claim(*READY),
            pool=pool("InProgress", phase="Upgrading"),
            nodes=(node(deleting=5),),
        ),
        (ReleaseNode(node(deleting=5)),),
        ("done", "-", "-"),
    ),
    "a node that leaves beside the bound one is let go": Case(
        saw(claim=claim(*READY), pool=pool(), nodes=(node(), node("node-2", deleting=5))),
        (ReleaseNode(node("node-2", deleting=5)),),
        ("done", "done", "done"),
    ),
    "a stranger that leaves the pool does not take the claim along": Case(
        saw(claim=claim(*READY), pool=pool(), nodes=(node("node-2", deleting=5),)),
        told=("done", "-", "-"),
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_plan(case: Case) -> None:
    plan = decide(case.seen)
    assert plan.actions == case.does
    assert reasons(plan) == case.told
    looks = {"look_again": plan.look_again, "fresh": plan.fresh}
    assert {name: value for name, value in looks.items() if value is not None} == case.looks


def test_a_timeout_counts_from_what_is_known_of_the_start() -> None:
    never_marked = claim(started=None, labels={ASSIGNED_POOL: NAME})
    plan = decide(saw(claim=never_marked, pool=pool("InProgress")))
    assert plan.look_again == 840.0  # by the pool's tag
    plan = decide(saw(claim=never_marked, pool=pool("InProgress", tags={})))
    assert plan.look_again == 780.0  # by the claim's creation
    ageless = replace(never_marked, created=None)
    assert decide(saw(claim=ageless, pool=pool("InProgress", tags={}))).look_again == 900.0


def test_a_node_that_failed_after_all_was_well_is_told_as_trouble() -> None:
    plan = decide(saw(claim=claim(*READY), pool=pool(), nodes=(node(ready=False),)))
    assert plan.progress is not None
    assert plan.progress.trouble is not None
    assert plan.progress.trouble.reason == "NodeNotReady"
    assert "the kubelet is gone" in plan.progress.trouble.message


def test_the_bound_node_is_told_verbatim() -> None:
    plan = decide(saw(claim=claim(*READY), pool=pool(), nodes=(node(provider_id="Azure:///X/y"),)))
    assert plan.progress is not None
    assert plan.progress.bound is not None
    assert plan.progress.bound.provider_id == "Azure:///X/y"
    assert plan.progress.bound.image == "AKSUbuntu-2204"


def test_the_image_is_kept_while_the_pool_is_out_of_sight() -> None:
    told = claim(*READY, status={"imageID": "old-image"})
    plan = decide(saw(claim=told, nodes=(node(),)))
    assert plan.progress is not None
    assert plan.progress.bound is not None
    assert plan.progress.bound.image == "old-image"


def test_a_refusal_tells_when_the_next_try_is() -> None:
    plan = decide(saw(refused=refusal("quota", left=300)))
    assert plan.progress is not None
    assert plan.progress.launched is not None
    assert plan.progress.launched.text == "quota. Next try after 12:05:00 UTC."


@pytest.mark.parametrize("kind", COURSES)
def test_every_kind_of_refusal_is_told_or_kept_quiet_on_purpose(kind: Kind) -> None:
    plan = decide(saw(refused=refusal(kind)))
    assert reasons(plan)[0] == ("PoolCreating" if kind == "transient" else COURSES[kind].reason)


def test_claims_from_the_dialects_and_from_the_builder_are_planned_alike() -> None:
    seen = saw(claim=claim(*READY, kind="NodeClaim"), pool=pool(), nodes=(node(),))
    assert decide(seen).progress == decide(replace(seen, claim=claim(*READY))).progress


def test_once_initialized_a_claim_stays_so() -> None:
    plan = decide(saw(claim=claim(*READY), pool=pool(), nodes=(node(gpu=0),)))
    assert plan.progress is not None
    assert plan.progress.initialized == DONE


def test_conditions_told_by_others_do_not_count() -> None:
    odd = claim(told=(condition("Launched", "Unknown", "PoolCreating"),))
    assert reasons(decide(saw(claim=odd))) == ("PoolCreating", *NOT_YET)


def test_a_taint_of_the_claim_is_no_obstacle() -> None:
    seen = saw(claim=claim(*REGISTERED), pool=pool(), nodes=(node(taints=(GPU_TAINT,)),))
    assert reasons(decide(seen)) == ("done", "done", "done")
