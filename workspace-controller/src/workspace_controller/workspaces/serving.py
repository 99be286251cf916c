"""Decides what the objects that serve a model need, and tells how the model does: pure.

Invariant: of two workloads that would want the same GPUs there is never more than one, and none is
taken away before there are nodes for what takes its place.
"""

from workspace_controller.workspaces import reasons
from workspace_controller.workspaces.facts import (
    WORKLOADS,
    Action,
    ApplyChild,
    Child,
    Finding,
    Observed,
    Problem,
    RemoveChild,
    Scale,
)


def serve(seen: Observed, resource: Finding) -> tuple[Action, ...]:
    """Brings the children to what they should be, once there are nodes to run on.

    Args:
        seen: what the pass has seen.
        resource: how the nodes are.
    """
    blocked = any(child.owner in ("foreign", "previous") for child in seen.children)
    exists = any(_is_our_workload(child) for child in seen.children)
    if blocked or not (exists or resource.outlook == "good"):
        return ()
    changes = (_change(seen, resource, child) for child in seen.children)
    return tuple(change for change in changes if change is not None)


def _change(seen: Observed, resource: Finding, child: Child) -> Action | None:
    """What a child needs done; None when nothing does, or something else must happen first."""
    if child.deleting:
        return None  # gone soon; its end wakes us, and then it is applied anew
    workload = child.kind in WORKLOADS
    if not child.wanted:
        # A workload serves on until there are nodes for the one that takes its place.
        due = child.owner == "ours" and (not workload or resource.outlook == "good")
        return RemoveChild(child.kind, with_pods=workload) if due else None
    if child.wanted == child.found:
        scale = child.kind == "Deployment" and _to_be_scaled(seen, resource)
        return Scale(seen.wanted) if scale else None
    if not workload:
        return ApplyChild(child.kind)
    return _changed_workload(seen, resource, child)


def _changed_workload(seen: Observed, resource: Finding, child: Child) -> Action | None:
    """A Deployment is rolled; a StatefulSet, whose pods are one, and another kind have to go."""
    if any(_is_our_workload(other) for other in seen.children if other is not child):
        return None  # two would want the same GPUs
    if child.kind == "StatefulSet" and child.owner == "ours":
        lacks_nodes = seen.serving.asked < seen.wanted and resource.outlook != "good"
        return None if lacks_nodes else RemoveChild(child.kind, with_pods=True)
    return ApplyChild(child.kind)


def _is_our_workload(child: Child) -> bool:
    return child.kind in WORKLOADS and child.owner == "ours"


def _to_be_scaled(seen: Observed, resource: Finding) -> bool:
    """Down at once, so that nodes can go; up when the nodes are there, so that no pod waits."""
    if seen.serving.asked > seen.wanted:
        return True
    return seen.serving.asked < seen.wanted and resource.outlook == "good"


def inference(seen: Observed, resource: Finding) -> Finding:
    """How the model is served, with nodes as `resource` says."""
    ours = [child for child in seen.children if _is_our_workload(child)]
    if (taken := _names_taken(seen)) is not None:
        return taken
    if not ours:
        return _not_begun(seen, resource)
    if seen.awaits is not None:
        return _held_up(seen, resource, seen.awaits)
    return _being_changed(seen, ours) or _pods(seen, resource)


def _names_taken(seen: Observed) -> Finding | None:
    """Whose objects have the names of ours."""
    for child in seen.children:
        if child.owner == "foreign":
            return Finding(
                "bad",
                reasons.NAME_TAKEN,
                f"a {child.title} exists and is not ours. Delete it, or delete this Workspace and "
                "give it another name.",
            )
        if child.owner == "previous":
            return Finding(
                "pending",
                reasons.INFERENCE_PENDING,
                f"waiting until the {child.title} of an earlier Workspace of this name is gone",
            )
    return None


def _being_changed(seen: Observed, ours: list[Child]) -> Finding | None:
    """What does not yet answer to the spec."""
    leaving = [child.kind for child in ours if not child.wanted]
    if leaving:
        message = f"the {leaving[0]} ends, and what replaces it comes when its pods are gone"
        return Finding("pending", reasons.INFERENCE_PENDING, message)
    behind = [child.kind for child in seen.children if child.wanted and child.wanted != child.found]
    if behind:
        message = f"the {' and the '.join(behind)} is being brought up to date"
        return Finding("pending", reasons.INFERENCE_PENDING, message)
    return None


def _not_begun(seen: Observed, resource: Finding) -> Finding:
    if seen.awaits is not None:
        awaits = seen.awaits
        return Finding("pending" if awaits.passing else "bad", awaits.reason, awaits.message)
    if resource.outlook != "good":
        return Finding("pending", reasons.INFERENCE_PENDING, "waits for ResourceReady")
    kind = next(c.kind for c in seen.children if c.kind in WORKLOADS and c.wanted)
    return Finding("pending", reasons.INFERENCE_PENDING, f"the {kind} is being created")


def refused(seen: Observed, resource: Finding, problem: Problem) -> Finding:
    """How a model does whose Workspace cannot be served as it is: it may serve from before."""
    if not any(_is_our_workload(child) for child in seen.children):
        return Finding("pending", reasons.INFERENCE_PENDING, "waits for ResourceReady")
    return _held_up(seen, resource, problem)


def _held_up(seen: Observed, resource: Finding, awaits: Problem) -> Finding:
    """What serves goes on from what it was built from; what is missing is said all the same."""
    found = _pods(seen, resource)
    reason = found.reason if found.outlook == "good" else awaits.reason
    return Finding(
        found.outlook, reason, f"{found.message}. No edit takes effect: {awaits.message}"
    )


def _pods(seen: Observed, resource: Finding) -> Finding:
    serving = seen.serving
    ready = min(serving.ready, serving.updated, seen.wanted)
    count = f"{ready} of {seen.wanted} pods ready"
    if serving.current and serving.asked == seen.wanted and ready >= seen.wanted:
        return Finding("good", reasons.INFERENCE_SUCCESS, count)
    # That a pod finds no node is news only where its node is there.
    awaited = {reasons.UNSCHEDULABLE} if resource.outlook != "good" else set()
    for trouble in seen.pods:
        if trouble.reason not in awaited:
            return Finding("bad", trouble.reason, f"{count}. {trouble.message}")
    if serving.refusal:
        return Finding("bad", reasons.PODS_REFUSED, f"{count}. {serving.refusal}")
    loading = f". {seen.loading}" if seen.loading else ""
    return Finding("pending", reasons.INFERENCE_PENDING, count + loading)
