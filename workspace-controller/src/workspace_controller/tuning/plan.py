"""Decides what a pass does about a tuning Workspace's run: pure, total, without clock or logger.

Invariant: a run that has ended is recorded before anything of it is given up, and once it is
recorded no node is ever asked for it again and no Job made.
"""

from dataclasses import dataclass, replace
from typing import Final, Literal

from workspace_controller.claims.wording import BRIEF_LIMIT, brief
from workspace_controller.tuning.facts import Ending, Progress, Record, Tuning
from workspace_controller.workspaces import reasons
from workspace_controller.workspaces.attempts import history
from workspace_controller.workspaces.facts import (
    Action,
    Child,
    DeleteClaims,
    Finding,
    Observed,
    Plan,
    ReleaseNodes,
    RemoveChild,
    Report,
    StartRun,
)
from workspace_controller.workspaces.slots import GONE_CHECK

State = Literal["Pending", "Running", "Succeeded", "Failed"]

CONFIG_CHECK: Final = 30.0
"""Seconds between two looks at a user's ConfigMap, of which no event tells."""
BEGUN: Final = "the training has begun"
WHERE: Final = "; status.tuning says how far it is."
NAME_TAKEN: Final = (
    "a Job of this name exists and is not ours. Delete it, or delete this Workspace and give it "
    "another name."
)


@dataclass(frozen=True)
class Advance:
    """What the run needs, and how it is, while it has not ended."""

    inference: Finding
    started: Finding
    state: State
    record: Record
    actions: tuple[Action, ...] = ()
    look_again: float | None = None


def before_nodes(seen: Observed, run: Tuning) -> Plan | None:
    """The whole plan of a pass that must not ask for nodes; None for one that may."""
    if run.ended is not None:
        return _after(seen, run, run.ended)
    if run.job in ("complete", "failed"):
        return _over(run)
    return None if seen.problem is not None else _obstacle(seen, run)


def _obstacle(seen: Observed, run: Tuning) -> Plan | None:
    """What must be out of the way before a node is worth paying for."""
    if run.unusable is not None and run.job == "absent":
        return _stopped(seen, run.unusable.reason, run.unusable.message)
    job = _job(seen)
    if job.owner == "foreign":
        return _stopped(seen, reasons.NAME_TAKEN, NAME_TAKEN)
    if job.owner == "previous":
        return _held_up("waits until the Job of an earlier Workspace of this name is gone")
    previous = run.record is not None and run.record.run != run.wanted
    if previous and seen.claims and not any(claim.live for claim in seen.claims):
        names = ", ".join(sorted(f"{claim.kind} {claim.name}" for claim in seen.claims))
        return _held_up(f"waits until {names} of the run before is gone")
    if job.owner == "ours" and job.found != run.wanted and not _has_node(seen):
        # First, for the API server judges the next one by its name: a Job cannot become another.
        end: tuple[Action, ...] = () if job.deleting else (RemoveChild("Job", with_pods=True),)
        return _held_up("waits until the Job of the run before is gone", end)
    return None


def _has_node(seen: Observed) -> bool:
    """Whether there is a node for the next run, or one on its way."""
    return bool(seen.reserved) or any(claim.live for claim in seen.claims)


def _job(seen: Observed) -> Child:
    return next((child for child in seen.children if child.kind == "Job"), Child("Job"))


# ---- before a run ----


def _stopped(seen: Observed, reason: str, message: str) -> Plan:
    """No node is paid for while nothing can run on it."""
    idle = not seen.claims and not seen.reserved
    waits = (
        f"no node is asked for before this is mended: {message}"
        if idle
        else f"its node is kept, and paid for, until this is mended: {message}"
    )
    bad = Finding("bad", reason, message)
    return Plan(
        report=Report(
            workspace=_whole(bad),
            resource=Finding("pending", reasons.RESOURCE_PENDING, waits),
            inference=bad,
            started=Finding("pending", reasons.JOB_PENDING, message),
            state="Pending",
        ),
        look_again=CONFIG_CHECK,
    )


def _held_up(message: str, actions: tuple[Action, ...] = ()) -> Plan:
    return Plan(
        actions=actions,
        report=Report(
            workspace=Finding("pending", reasons.PENDING, message),
            resource=Finding("pending", reasons.RESOURCE_PENDING, message),
            inference=Finding("pending", reasons.TUNING_PENDING, message),
            started=Finding("pending", reasons.JOB_PENDING, message),
            state="Pending",
        ),
        look_again=GONE_CHECK,
    )


# ---- a run ----


def advance(seen: Observed, run: Tuning, resource: Finding) -> Advance:
    """The next step of a run that has not ended."""
    job = _job(seen)
    if job.owner == "ours" and (job.deleting or job.found != run.wanted):
        message = "the run before is being ended"
        end: tuple[Action, ...] = () if job.deleting else (RemoveChild("Job", with_pods=True),)
        return _waiting(run, Finding("pending", reasons.TUNING_PENDING, message), end)
    return _to_begin(run, resource) if run.job == "absent" else _under_way(seen, run, resource)


def _to_begin(run: Tuning, resource: Finding) -> Advance:
    if resource.outlook != "good":
        message = "waits for ResourceReady"
        return _waiting(run, Finding("pending", reasons.TUNING_PENDING, message))
    start = StartRun(run.wanted, run.output, copy_defaults=not run.own_config)
    message = "the Job is being created"
    return _waiting(run, Finding("pending", reasons.TUNING_PENDING, message), (start,))


def _under_way(seen: Observed, run: Tuning, resource: Finding) -> Advance:
    again = CONFIG_CHECK if run.own_config else None
    before = f" {_earlier(run.failures, run.ending)}" if run.ending is not None else ""
    # That a pod finds no node is news only where its node is there.
    awaited = {reasons.UNSCHEDULABLE} if resource.outlook != "good" else set()
    trouble = next((each for each in seen.pods if each.reason not in awaited), None)
    if trouble is not None:
        now = Finding("bad", trouble.reason, f"{trouble.message}{before}")
    elif run.at_work:
        now = Finding("pending", reasons.TUNING_RUNNING, f"the training runs{WHERE}{before}")
    else:
        doing = seen.loading or "the Job has yet to make a pod"
        now = Finding("pending", reasons.TUNING_PENDING, f"{doing}.{before}")
    if run.started_at is None:
        return _waiting(run, now, look_again=again)
    started = Finding("good", reasons.JOB_RUNS, BEGUN)
    return Advance(now, started, "Running", _record(run), look_again=again)


def _earlier(failures: int, ending: Ending) -> str:
    many = "pod has" if failures == 1 else "pods have"
    last = f" ({ending.reason}): {ending.message}" if ending.reason else ""
    return f"{failures} {many} failed before; the last one{last}" if last else ""


def _waiting(
    run: Tuning,
    why: Finding,
    actions: tuple[Action, ...] = (),
    *,
    look_again: float | None = None,
) -> Advance:
    started = Finding("pending", reasons.JOB_PENDING, why.message)
    return Advance(why, started, "Pending", _record(run), actions, look_again)


def _over(run: Tuning) -> Plan:
    """The run has ended. This pass records it; what it held is given up by a later one.

    Were it the other way round, a crash in between would lose the diagnosis with the pods.
    """
    ending = _success(run) if run.job == "complete" else _failure(run)
    record = replace(
        _record(run, ending),
        result="Succeeded" if run.job == "complete" else "Failed",
        reason=ending.reason,
        message=ending.message,
    )
    return Plan(report=_ended(record))


def _success(run: Tuning) -> Ending:
    """What the pod said; where it said nothing that was kept, the Job's word must do."""
    said = run.ending if run.ending is not None and not run.ending.reason else Ending("")
    where = f"{said.image}@{said.digest}" if said.image and said.digest else run.destination
    return replace(said, reason=reasons.TUNING_SUCCEEDED, message=f"the result is in {where}")


def _failure(run: Tuning) -> Ending:
    reason, message = run.verdict
    if reason == "DeadlineExceeded":
        return Ending(
            reasons.TUNING_OVERDUE,
            f"the run was ended: {message} The limit is the installation's tuning deadline; ask "
            "whoever runs it for more, or train for fewer steps.",
            run.ending.progress if run.ending is not None else Progress(),
        )
    if run.ending is not None and run.ending.reason:
        return run.ending
    return Ending(reasons.TUNING_FAILED, f"the Job failed: {reason} {message}".rstrip())


def _record(run: Tuning, ending: Ending | None = None) -> Record:
    """What is to be recorded now; figures that are not known any more stay."""
    same = run.record if run.record is not None and run.record.run == run.wanted else None
    record = same or Record(run.wanted)
    started = record.started_at or run.started_at
    if ending is None:
        return replace(record, started_at=started, progress=run.progress or record.progress)
    said = ending.progress if ending.progress.step is not None else run.progress
    return replace(
        record,
        started_at=started,
        finished_at=run.finished_at,
        progress=said or record.progress,
        image=ending.image,
        digest=ending.digest,
    )


# ---- after a run ----


def _after(seen: Observed, run: Tuning, record: Record) -> Plan:
    """Gives the node up, unless it is to be kept; never asks for another."""
    hindrance = None
    if run.unusable is not None and record.result == "Failed":
        hindrance = Finding("bad", run.unusable.reason, run.unusable.message)
    look_again = CONFIG_CHECK if run.own_config and record.result == "Failed" else None
    held = bool(seen.claims or seen.reserved)
    report = _ended(record, hindrance)
    if held and run.keep_node:
        kept = (
            "the run has ended and its node is kept, and paid for, until this Workspace is deleted "
            "or its annotation kaito.sh/keep-node says false"
        )
        report = replace(report, resource=Finding("good", reasons.NODE_KEPT, kept))
        return Plan(report=report, look_again=look_again)
    gone = "the run has ended and its node is given up: nothing is paid for any more"
    going_on = "the run has ended, and its node is being given up"
    report = replace(
        report,
        resource=Finding("good", reasons.RELEASED, going_on if held else gone),
        claims_gone=True,
        nodes=(),
        records=(),
        attempts=history(seen, ()),
        run=replace(record, released=not held),
    )
    going = tuple(claim for claim in seen.claims if claim.live)
    actions: tuple[Action, ...] = (DeleteClaims(going),) if going else ()
    if seen.reserved:
        actions += (ReleaseNodes(seen.reserved),)
    return Plan(actions, report, GONE_CHECK if held else look_again)


def _ended(record: Record, hindrance: Finding | None = None) -> Report:
    """What a recorded run means; `hindrance` is what keeps a failed one from beginning anew."""
    inference, started, state = _verdict(record)
    inference = hindrance or inference
    return Report(
        workspace=_whole(inference),
        inference=inference,
        started=started,
        state=state,
        run=record,
    )


def _verdict(record: Record) -> tuple[Finding, Finding, State]:
    if record.result == "Succeeded":
        good = Finding("good", record.reason or reasons.TUNING_SUCCEEDED, record.message)
        ran = Finding("good", reasons.JOB_RUNS, BEGUN)
        return good, ran, "Succeeded"
    bad = Finding("bad", record.reason or reasons.TUNING_FAILED, record.message)
    # False like what is bad, but no news beside the condition that it points to.
    failed = Finding("pending", reasons.JOB_FAILED, "the run has failed: see InferenceReady")
    return bad, failed, "Failed"


def _whole(inference: Finding) -> Finding:
    if inference.outlook == "good":
        return Finding("good", reasons.WORKSPACE_IS_READY, inference.message)
    cause = brief(inference.message, BRIEF_LIMIT, reasons.INFERENCE_READY)
    return Finding("bad", reasons.FAILED, f"{reasons.INFERENCE_READY}: {cause}")
