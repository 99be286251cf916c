"""Which steps of a Workspace's life are behind it, judged from the objects alone.

Invariant: pure. A step counts as reached only when an object of the cluster says so, and the steps
are taken in order, so that each one's time is its own.
"""

from dataclasses import dataclass

from gpuapis import labels
from gpuapis.core import Node, Pod
from gpuapis.machine import Machine
from gpuapis.nodeclaim import NodeClaim
from gpuapis.workspace import TuningStatus, Workspace

Claim = Machine | NodeClaim

PHASES = (
    "claim created",
    "pool accepted",
    "node joined",
    "GPU advertised",
    "image",
    "model loaded",
    "ready",
)
TUNING_PHASES = (*PHASES[:5], "trained", "pushed")


@dataclass(frozen=True)
class Seen:
    """All that the demo reads of one Workspace at one moment."""

    workspace: Workspace | None
    claims: tuple[Claim, ...]
    nodes: tuple[Node, ...]
    pods: tuple[Pod, ...]


def reached(seen: Seen) -> int:
    """How many of PHASES, or TUNING_PHASES, are complete, from the first on."""
    tuning = None if seen.workspace is None else seen.workspace.status.tuning
    if tuning is not None and tuning.result == "Succeeded":
        return len(TUNING_PHASES)  # and its node may be gone
    tests = (
        bool(seen.claims),
        any(_pool_accepted(claim) for claim in seen.claims),
        bool(seen.nodes),
        any(node.allocatable(labels.GPU_RESOURCE) > 0 for node in seen.nodes),
        any(_container_runs(pod) for pod in seen.pods),
        _trained(tuning) if tuning is not None else any(pod.ready for pod in seen.pods),
        seen.workspace is not None and condition(seen.workspace, "WorkspaceReady") == "True",
    )
    return next((index for index, done in enumerate(tests) if not done), len(tests))


def failed(seen: Seen) -> bool:
    """Whether a tuning run has failed for good."""
    tuning = None if seen.workspace is None else seen.workspace.status.tuning
    return tuning is not None and tuning.result == "Failed"


def condition(workspace: Workspace, kind: str) -> str:
    """The status of one condition; "Unknown" when it was never set."""
    return next((c.status for c in workspace.status.conditions if c.type == kind), "Unknown")


def explanation(seen: Seen) -> str:
    """What the Workspace itself says about why it is not ready, in one line."""
    if seen.workspace is None:
        return "the Workspace does not exist"
    tuning = seen.workspace.status.tuning
    if tuning is not None and tuning.result is None and tuning.step is not None:
        return f"step {tuning.step} of {tuning.total_steps}, loss {tuning.loss}"
    said = [
        f"{c.type}={c.status} ({c.reason}): {c.message}"
        for c in seen.workspace.status.conditions
        if c.status != "True" and c.message
    ]
    return "; ".join(said) or "no condition explains itself yet"


def _trained(tuning: TuningStatus) -> bool:
    return tuning.step is not None and tuning.step == tuning.total_steps


def _pool_accepted(claim: Claim) -> bool:
    """Azure has taken the order: the launch condition waits for the pool or is past that."""
    launched = [c for c in claim.status.conditions if c.type in {"MachineLaunched", "Launched"}]
    return any(
        c.status == "True" or c.reason in {"PoolCreating", "WaitingForNode"} for c in launched
    )


def _container_runs(pod: Pod) -> bool:
    return any(status.state.running is not None for status in pod.status.container_statuses)
