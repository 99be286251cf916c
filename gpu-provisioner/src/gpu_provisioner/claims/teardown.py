"""Decides how to remove what was made for a claim: a pure function of what was observed.

Invariant: the claim is let go only after Azure said that its VM, or its whole pool, is gone; pods
are asked to leave first, as long as there is a node that they could run on; a VM that is still
being made is not waited for.
"""

from dataclasses import replace

from gpu_provisioner.azure.pools import Pool
from gpu_provisioner.binding import belongs, shared
from gpu_provisioner.claims.actions import (
    Action,
    ConfirmGone,
    Cordon,
    Evict,
    Leave,
    Observed,
    Plan,
    Release,
    ReleaseNode,
)
from gpu_provisioner.claims.progress import Progress, Step
from gpu_provisioner.nodes.eviction import next_to_leave, remaining
from gpu_provisioner.nodes.registration import cordoned, held
from gpuapis.core import Node

DRAIN_AGAIN = 1.0
LOOK_AGAIN = 5.0


def tear_down(seen: Observed) -> Plan:
    """The next step towards the end of a claim whose deletion was asked for."""
    claim = seen.claim
    if not claim.held:
        return Plan()
    nodes = tuple(node for node in seen.nodes if held(node))
    asked = claim.started is not None or claim.is_true("Launched")
    # An earlier release left no mark, so its pool is ruled out only by a look at Azure.
    ruled_out = seen.view_age is not None or isinstance(seen.wanted, str)
    if seen.pool is None and ruled_out and not asked and not nodes:
        return Plan((Release(),))
    if seen.view_age is None or seen.blind is not None:
        blind = seen.blind
        return Plan(progress=_ending(blind.reason, blind.message) if blind else None)
    return _remove(seen, nodes)


def _remove(seen: Observed, nodes: tuple[Node, ...]) -> Plan:
    """Takes away what is left: pods, then the pool, then the node's object, then the claim."""
    if seen.pool is None:
        return _held_up(seen) or _finish(nodes, (ConfirmGone(seen.place),))
    name = seen.pool.name
    if not belongs(seen.pool, seen.claim):
        # The name has gone to another pool, which can only be since ours was gone.
        return _finish((), ())
    if seen.gone:
        return _finish(nodes, ())
    if seen.pool.state == "Deleting":
        text = f"AKS is removing agent pool {name} and its VM."
        return Plan(tuple(ReleaseNode(node) for node in nodes), _ending("PoolDeleting", text))
    return _drain(seen, nodes) or _leave(seen, seen.pool, nodes)


def _finish(nodes: tuple[Node, ...], first: tuple[Action, ...]) -> Plan:
    return Plan((*first, *(ReleaseNode(node) for node in nodes), Release()))


def _drain(seen: Observed, nodes: tuple[Node, ...]) -> Plan | None:
    """Has the pods leave; None when nothing that runs on the nodes is in the way any more."""
    deadline = seen.claim.drain_deadline
    if deadline is not None and seen.now >= deadline:
        return None
    left = remaining(seen.pods, seen.now)
    open_nodes = tuple(node for node in nodes if not cordoned(node))
    # While a node is open to new pods, seeing none on it proves nothing.
    if not left and not open_nodes:
        return None
    actions: tuple[Action, ...] = (
        *(Cordon(node) for node in open_nodes),
        *(Evict(pod) for pod in next_to_leave(left)),
    )
    names = ", ".join(sorted(f"{pod.metadata.namespace}/{pod.metadata.name}" for pod in left)[:3])
    text = f"{len(left)} pods have to leave first: {names}." if left else "The node is cordoned."
    return Plan(actions, _ending("Draining", text), DRAIN_AGAIN)


def _leave(seen: Observed, pool: Pool, nodes: tuple[Node, ...]) -> Plan:
    """Nothing runs on the claim's VM any more: the rest is for its pool to do."""
    # AKS deletes the node's object before its VM is gone; nothing is to be drained any more.
    released = tuple(ReleaseNode(node) for node in nodes if node.deleting)
    actions: tuple[Action, ...] = (Leave(pool.name), *released)
    if held_up := _held_up(seen):
        return replace(held_up, actions=actions)
    vm = f"VM {seen.claim.seat}" if seen.claim.seat else "the claim's VM"
    what = f"{vm} of agent pool {pool.name}" if shared(pool) else f"agent pool {pool.name}"
    return Plan(actions, _ending("PoolDeleting", f"AKS is asked to remove {what}."), LOOK_AGAIN)


def _held_up(seen: Observed) -> Plan | None:
    """Azure has just said no; None when it may be asked again."""
    refused = seen.undeletable
    wait = refused.wait(seen.pool, seen.now) if refused else 0.0
    if refused is None or not wait:
        return None
    progress = _ending(refused.failure.reason, refused.failure.message)
    return Plan((), progress, wait, fresh=LOOK_AGAIN)


def _ending(reason: str, text: str) -> Progress:
    return Progress(None, None, None, ending=Step("waiting", reason, text))
