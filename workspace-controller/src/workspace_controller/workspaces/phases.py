"""How long each step from a Workspace to a served model took, from the objects' own timestamps.

Invariant: nothing is remembered: after a restart the same objects give the same times.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from gpuapis.core import Pod
from gpuapis.workspace import Phase
from workspace_controller.workspaces.facts import Claim

READY: Final = "ready"
TOTAL: Final = "total"
_CLAIM_STEPS: Final = ("launch", "join", "gpu")

Span = tuple[str, datetime | None, datetime | None]


def phases(created: datetime, claims: Iterable[Claim], pods: Iterable[Pod]) -> tuple[Phase, ...]:
    """The steps that are over, in order; for several nodes or pods, the slowest of them."""
    slowest: dict[str, int] = {}
    for name, begin, end in (*_of_claims(created, claims), *_of_pods(pods)):
        if begin is not None and end is not None:
            seconds = _seconds(begin, end)
            slowest[name] = max(slowest.get(name, 0), seconds)
    return tuple(Phase(name=name, seconds=seconds) for name, seconds in slowest.items())


def with_ready(
    done: tuple[Phase, ...], created: datetime, pods: Iterable[Pod], now: datetime
) -> tuple[Phase, ...]:
    """The steps, then from the last pod's readiness to ours, and the whole time.

    A pod that became ready before the Workspace was made would count for nothing.
    """
    total = _seconds(created, now)
    moments = [moment for pod in pods if (moment := _ready(pod)) is not None]
    last = max(moments, default=now)
    return (
        *done,
        Phase(name=READY, seconds=min(total, _seconds(last, now))),
        Phase(name=TOTAL, seconds=total),
    )


def _seconds(begin: datetime, end: datetime) -> int:
    return max(0, round((end - begin).total_seconds()))


def _of_claims(created: datetime, claims: Iterable[Claim]) -> Iterable[Span]:
    live = [claim for claim in claims if claim.live]
    yield from (("claim", created, claim.milestones[0]) for claim in live)
    for number, name in enumerate(_CLAIM_STEPS):
        yield from ((name, c.milestones[number], c.milestones[number + 1]) for c in live)


def _of_pods(pods: Iterable[Pod]) -> Iterable[Span]:
    living = [pod for pod in pods if not pod.deleting]
    yield from (("image", pod.status.start_time, _started(pod)) for pod in living)
    yield from (("load", _started(pod), _ready(pod)) for pod in living)


def _started(pod: Pod) -> datetime | None:
    """When the last of its containers began to run."""
    running = [status.state.running for status in pod.status.container_statuses]
    moments = [state.started_at for state in running if state is not None and state.started_at]
    return max(moments, default=None)


def _ready(pod: Pod) -> datetime | None:
    ready = (c for c in pod.status.conditions if c.type == "Ready" and c.status == "True")
    return next((condition.last_transition_time for condition in ready), None)
