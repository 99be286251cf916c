"""Decides what to do about one claim: a pure function of what was observed.

Invariant: a claim follows what its pool comes to, and asks Azure for nothing itself; one that has
its node is never disturbed for what Azure says of the pool.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from gpu_provisioner.azure.courses import CLUSTER_WIDE, COURSES
from gpu_provisioner.azure.errors import About, Failure, classify
from gpu_provisioner.azure.pools import Pool
from gpu_provisioner.binding import belongs, made_at
from gpu_provisioner.claims.actions import (
    BOOTSTRAPS,
    Bind,
    DeleteClaim,
    Hold,
    MarkInitialized,
    Observed,
    Plan,
    Refusal,
    RegisterNode,
    ReleaseNode,
)
from gpu_provisioner.claims.claim import Claim
from gpu_provisioner.claims.progress import DONE, Bound, Progress, State, Step
from gpu_provisioner.claims.shape import resolved_labels
from gpu_provisioner.claims.teardown import LOOK_AGAIN, tear_down
from gpu_provisioner.nodes.readiness import initialization
from gpu_provisioner.nodes.registration import held, initialized_patch, registration_patch
from gpuapis.core import Node
from gpuapis.labels import INSTANCE_TYPE

CHECK_AGAIN = 60.0
SOON = 1.0

_CREDIBLE = 2.0
"""Seconds by which a view of Azure may be older than what it is to explain: clocks differ."""

_QUIETLY = 2
"""Passing faults in a row that are nobody's business yet."""

_ON_ITS_WAY = frozenset({"conflict", "changed", "queued", "throttled", "transient", "gone"})


def decide(seen: Observed) -> Plan:
    """The next step for one claim."""
    claim = seen.claim
    if claim.deleting:
        return tear_down(seen)
    if not claim.held:
        return Plan((Hold(resolved_labels(claim)),))
    if claim.is_true("Launched"):
        return _follow(seen)
    return _provide(seen)


def _provide(seen: Observed) -> Plan:
    """The claim has no node yet."""
    if isinstance(seen.wanted, str):
        return Plan(progress=Progress(Step("failed", "InvalidRequest", seen.wanted)))
    if seen.view_age is None or seen.blind is not None:
        return Plan(progress=Progress(_told(seen.blind)) if seen.blind else None)
    if seen.pool is None:
        return _without_old_nodes(seen, _await_request(seen))
    if not belongs(seen.pool, seen.claim):
        return _name_taken(seen.pool)
    if seen.pool.state in {"Failed", "Deleting"}:
        return _without_old_nodes(seen, _launch(seen, seen.pool))
    return _launch(seen, seen.pool)


def _without_old_nodes(seen: Observed, plan: Plan) -> Plan:
    """Lets go, too, of a node that joined before its pool failed: nobody else will."""
    old = tuple(ReleaseNode(node) for node in seen.nodes if node.deleting and held(node))
    return replace(plan, actions=(*old, *plan.actions))


def _await_request(seen: Observed) -> Plan:
    """There is no pool yet: one is asked for, or Azure has said no and is asked again later."""
    if seen.refused is not None and (final := _hopeless(seen, seen.refused)):
        return final
    asked = Progress(_making(seen.claim, seen.place))
    if seen.refused is not None:
        return _wait_out(seen, seen.refused, asked)
    # Without a place it is about to get one, in a few seconds at most.
    return Plan(progress=asked if seen.place else None)


def _making(claim: Claim, pool: str, phase: str = "") -> Step:
    size = claim.labels.get(INSTANCE_TYPE, "node")
    doing = f" ({phase})" if phase not in {"", "creating"} else ""
    return Step("waiting", "PoolCreating", f"AKS is making a {size} in agent pool {pool}{doing}.")


def hopeless(refused: Refusal) -> bool:
    """Whether no further try is made after this refusal."""
    again_and_again = refused.failure.kind == "bootstrap" and refused.attempts >= BOOTSTRAPS
    return refused.failure.final or again_and_again


def _hopeless(seen: Observed, refused: Refusal) -> Plan | None:
    """What to do about a refusal after which no further try is made; None if there is one."""
    failure = refused.failure
    if failure.kind == "capacity" and seen.policy.on_insufficient_capacity == "delete":
        return _give_up(failure.reason, failure.message)
    if hopeless(refused):
        return Plan(progress=Progress(Step("failed", failure.reason, failure.message)))
    return None


def _wait_out(seen: Observed, refused: Refusal, asked: Progress) -> Plan:
    # It is told until Azure has said otherwise, or one that lasts would be told anew at every try.
    wait = max((refused.until - seen.now).total_seconds(), SOON)
    if refused.failure.kind == "transient" and refused.attempts <= _QUIETLY:
        return Plan(progress=asked, look_again=wait)
    fresh = LOOK_AGAIN if refused.failure.kind in CLUSTER_WIDE else None
    return Plan((), Progress(_told(refused.failure, refused.until)), wait, fresh)


def _told(failure: Failure, until: datetime | None = None) -> Step:
    """A failure as a step, with the time of the next try where that is worth waiting for."""
    state: State = "waiting" if failure.kind in _ON_ITS_WAY else "refused"
    return Step(state, failure.reason, failure.message, until if state == "refused" else None)


def _name_taken(pool: Pool) -> Plan:
    """Another's pool has our name: it is not ours to change, and may go away by itself."""
    if pool.state == "Deleting":
        text = f"Agent pool {pool.name} of an earlier claim is being removed."
        return Plan(progress=Progress(Step("waiting", "OperationInProgress", text)))
    course = COURSES["name-taken"]
    text = f"An agent pool {pool.name} exists that was not made for this claim. {course.remedy}"
    step = Step("refused", course.reason, text)
    return Plan(progress=Progress(step), look_again=CHECK_AGAIN, fresh=CHECK_AGAIN)


def _launch(seen: Observed, pool: Pool) -> Plan:
    """Our pool is there, and the claim has no node yet."""
    match pool.state:
        case "InProgress":
            return _await_pool(seen, pool)
        case "Succeeded":
            return _await_node(seen, pool)
        case "Failed":
            return _await_node(seen, pool) if _usable(_joined(seen)) else _failed(seen, pool)
        case "Deleting":  # pragma: no branch  (no fifth state)
            text = f"Agent pool {pool.name} is being removed, to be made again."
            again = Step("waiting", "PoolCreating", text)
            return Plan(progress=Progress(_told(seen.refused.failure) if seen.refused else again))


def _await_pool(seen: Observed, pool: Pool) -> Plan:
    joined = _joined(seen)
    if _usable(joined):
        return _bind(seen, joined[0])
    left = _left(seen, pool, seen.policy.launch_timeout)
    if left <= 0:
        return _over_time(seen, f"AKS has not made agent pool {pool.name} ({pool.phase})", "launch")
    progress = Progress(_making(seen.claim, pool.name, pool.phase.lower()))
    # Early, so that the claim's labels and startup taints are there before any pod is.
    actions = _take_over(seen.claim, joined[0]) if len(joined) == 1 else ()
    if joined:
        # The VM has joined, so the operation is about to end.
        return Plan(actions, progress, min(SOON, left), fresh=SOON)
    return Plan(actions, progress, left)


def _usable(nodes: list[Node]) -> bool:
    """Whether there is just the node, and it works, whatever becomes of the operation."""
    return len(nodes) == 1 and nodes[0].ready and bool(nodes[0].spec.provider_id)


def _await_node(seen: Observed, pool: Pool) -> Plan:
    nodes = _joined(seen)
    if len(nodes) == 1 and nodes[0].spec.provider_id:
        return _bind(seen, nodes[0])
    left = _left(seen, pool, seen.policy.registration_timeout)
    if left <= 0:
        text = f"The VM of agent pool {pool.name} has not become a node of the cluster"
        return _over_time(seen, text, "registration")
    if len(nodes) > 1:
        return Plan(
            progress=Progress(_waiting_for_node(pool, nodes), _several(nodes)), look_again=left
        )
    return Plan(progress=Progress(_waiting_for_node(pool, nodes)), look_again=left)


def _waiting_for_node(pool: Pool, nodes: list[Node]) -> Step:
    if not pool.running:
        text = f"Agent pool {pool.name} is stopped; start it, or delete it to have it made again."
    elif nodes:
        text = f"Agent pool {pool.name} is made; its node is not yet known by one provider ID."
    else:
        text = f"Agent pool {pool.name} is made; its VM has yet to join the cluster."
    return Step("waiting", "WaitingForNode", text)


def _several(nodes: list[Node]) -> Step:
    names = ", ".join(sorted(node.metadata.name for node in nodes))
    return Step("failed", "MultipleNodesFound", f"Instead of one node there are {names}.")


def _failed(seen: Observed, pool: Pool) -> Plan:
    """The pool failed, and is about to be given up, or the claim's place in it."""
    if seen.refused is not None and (final := _hopeless(seen, seen.refused)):
        return final
    about = About(pool.vm_size, seen.policy.region)
    failure = classify("pool", None, pool.phase, pool.error, about=about)
    left = _left(seen, pool, seen.policy.registration_timeout)
    if left <= 0:
        text = f"The VM of agent pool {pool.name}, which failed, has not become a node"
        return _over_time(seen, text, "registration")
    return Plan(progress=Progress(_told(failure)), look_again=left)


def _over_time(seen: Observed, what: str, which: str) -> Plan:
    minutes = getattr(seen.policy, f"{which}_timeout") / 60
    text = f"{what} within {minutes:g} min."
    if seen.policy.on_timeout == "delete":
        return _give_up("LaunchTimeout" if which == "launch" else "RegistrationTimeout", text)
    return Plan(progress=Progress(Step("failed", "LaunchFailed", text)))


def _give_up(reason: str, text: str) -> Plan:
    return Plan((DeleteClaim(reason, text),))


def _left(seen: Observed, pool: Pool, timeout: float) -> float:
    """Seconds left of a timeout that runs from the request for the pool."""
    begun = seen.claim.started or made_at(pool) or seen.claim.created or seen.now
    return (begun + timedelta(seconds=timeout) - seen.now).total_seconds()


def _joined(seen: Observed) -> list[Node]:
    return [node for node in seen.nodes if not node.deleting]


def _follow(seen: Observed) -> Plan:
    """The claim has had its node: keep what is told of it true, and go when the node goes."""
    leaving = [node for node in seen.nodes if node.deleting]
    if not leaving:
        return _stay(seen)
    upgrading = seen.pool is not None and seen.pool.upgrading
    if upgrading or _joined(seen):
        # AKS replaces the VM. It has drained the old node, whose object may outlast the upgrade.
        return _stay(seen, tuple(ReleaseNode(node) for node in leaving if held(node)))
    for node in leaving:
        if node.metadata.name == seen.claim.node_name:
            return _node_deleted(seen, node)
    return _stay(seen)


def _node_deleted(seen: Observed, node: Node) -> Plan:
    """Somebody deleted the node; AKS does so too while it upgrades a pool, hence a fresh look."""
    gone_for = (seen.now - (node.metadata.deletion_timestamp or seen.now)).total_seconds()
    if seen.view_age is None or seen.view_age > max(gone_for, 0.0) + _CREDIBLE:
        return Plan(look_again=SOON, fresh=0.0)
    return _give_up("NodeDeleted", f"Node {node.metadata.name} was deleted.")


def _stay(seen: Observed, actions: tuple[ReleaseNode, ...] = ()) -> Plan:
    """The bound node, or the only one that is left in its pool, is the claim's."""
    nodes = _joined(seen)
    bound = [node for node in nodes if node.metadata.name == seen.claim.node_name]
    chosen = bound or (nodes if len(nodes) == 1 else [])
    if chosen and chosen[0].spec.provider_id:
        plan = _bind(seen, chosen[0])
        return Plan((*actions, *plan.actions), plan.progress, plan.look_again)
    lacking = (
        _several(nodes)
        if len(nodes) > 1
        else Step("waiting", "NodeNotFound", "The claim's node is not in the cluster.")
    )
    registered = None if seen.claim.is_true("Registered") else lacking
    return Plan(actions, Progress(DONE, registered, None, trouble=lacking))


def _bind(seen: Observed, node: Node) -> Plan:
    claim = seen.claim
    image = (seen.pool.image if seen.pool else "") or str(claim.status.get("imageID", ""))
    bound = Bound(
        node.metadata.name,
        node.spec.provider_id,
        image,
        node.status.capacity,
        node.status.allocatable,
    )
    if actions := _take_over(claim, node):
        progress = Progress(DONE, DONE, _unless_done(claim.is_true("Initialized")), bound=bound)
        return Plan(actions, progress)
    lacks = initialization(node, claim)
    if claim.is_true("Initialized"):
        trouble = None if lacks == DONE else lacks
        return Plan(_marking(node, lacks), Progress(DONE, DONE, DONE, trouble, bound=bound))
    return Plan(_marking(node, lacks), Progress(DONE, DONE, lacks, bound=bound))


def _take_over(claim: Claim, node: Node) -> tuple[Bind | RegisterNode, ...]:
    """Both halves of the binding, as far as they are not written down yet."""
    bind = (Bind(node),) if claim.seat != node.metadata.name else ()
    register = (RegisterNode(node),) if registration_patch(node, claim) else ()
    return (*bind, *register)


def _unless_done(done: bool) -> Step:
    text = "The node has just been registered."
    return DONE if done else Step("waiting", "NodeNotReady", text)


def _marking(node: Node, lacks: Step) -> tuple[MarkInitialized, ...]:
    return (MarkInitialized(node),) if lacks == DONE and initialized_patch(node) else ()
