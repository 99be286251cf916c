"""A tuning Workspace against a world that does what it likes: users, provisioners, Jobs and crashes.

The planner is the real one. A pass may be cut off after any of its actions, its report lost.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from workspace_controller.tuning.facts import Ending, JobPhase, Progress, Record, Tuning
from workspace_controller.workspaces.facts import (
    Action,
    AddFinalizer,
    Child,
    Claim,
    CreateClaims,
    DeleteClaims,
    LabelNode,
    Node,
    Observed,
    Plan,
    RemoveChild,
    SlotRecord,
    StartRun,
)
from workspace_controller.workspaces.plan import decide
from workspace_controller.workspaces.slots import claim_name

START = datetime(2026, 1, 1, tzinfo=UTC)
UID = "u-1"
SAID = Ending("", "", Progress(9, 9), "example.com/out:1", "sha256:1")
FAILED = Ending("TuningOutOfMemory", "full", Progress(3, 9))


@dataclass
class Made:
    """A claim as the API server has it."""

    attempt: int
    phase: Any = "silent"


@dataclass
class Job:
    run: str
    phase: JobPhase = "active"
    deleting: bool = False
    pods: bool = True
    """Its pods, and with them its last words, are there."""


class TuningMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.wish, self.keep, self.held = 1, False, False
        self.claims: dict[str, Made] = {}
        self.job: Job | None = None
        self.record: Record | None = None
        self.records: tuple[SlotRecord, ...] = ()
        self.ended: dict[str, str] = {}
        self.last = Plan()

    @initialize()
    def begin(self) -> None:
        self.pass_()

    @property
    def wanted(self) -> str:
        return f"run-{self.wish}"

    # ---- a pass ----

    def look(self) -> Observed:
        job = self.job
        mine = job is not None and job.run == self.wanted
        phase: JobPhase = job.phase if job is not None and mine else "absent"
        said = None
        if job is not None and mine and job.pods and phase in ("complete", "failed"):
            said = SAID if phase == "complete" else FAILED
        run = Tuning(
            wanted=self.wanted,
            output="/mnt/results",
            job=phase,
            ending=said,
            at_work=phase == "active",
            started_at=START if phase != "absent" else None,
            record=self.record,
            keep_node=self.keep,
            destination="example.com/out:1",
        )
        child = Child("Job")
        if job is not None:
            child = Child("Job", "", job.run, "ours", job.deleting)
        return Observed(
            now=self.now,
            uid=UID,
            held=self.held,
            claims=tuple(self.as_seen(name, made) for name, made in self.claims.items()),
            nodes={f"node-{name}": Node(f"node-{name}", gpus=1) for name in self.claims},
            records=self.records,
            children=(child,),
            tuning=run,
        )

    def as_seen(self, name: str, made: Made) -> Claim:
        return Claim(
            name,
            "Machine",
            made.phase,
            self.now,
            attempt=made.attempt,
            node=f"node-{name}" if made.phase == "ready" else "",
        )

    def pass_(self, cut: int | None = None) -> None:
        """One pass; with `cut`, the process dies after that many actions and says nothing."""
        self.last = decide(self.look())
        actions = self.last.actions if cut is None else self.last.actions[:cut]
        for action in actions:
            if not self.carry_out(action):
                return
        report = self.last.report
        if cut is None and report is not None:
            self.record = report.run or self.record
            self.records = self.records if report.records is None else report.records

    def carry_out(self, action: Action) -> bool:
        """Whether the API server took it."""
        match action:
            case AddFinalizer():
                self.held = True
            case CreateClaims(orders=(order,)):
                assert self.held, "held before anything costs money"
                name = claim_name(UID, 0, order.attempt)
                if name in self.claims:
                    return False
                self.claims[name] = Made(order.attempt)
                assert self.wanted not in self.ended, "no node is asked for a run that has ended"
            case DeleteClaims():
                for claim in action.claims:
                    self.give_up(claim.name)
            case StartRun():
                assert self.job is None
                assert action.run == self.wanted
                assert action.run not in self.ended, "a run that has ended is not run again"
                self.job = Job(action.run)
            case RemoveChild():
                assert self.job is not None
                assert self.job.run != self.wanted, "the run that is wanted is not ended"
                self.job.deleting = True
            case LabelNode():
                pass
            case _:
                raise AssertionError(action)
        return True

    def give_up(self, name: str) -> None:
        made = self.claims[name]
        record = self.record
        recorded = record is not None and record.run == self.wanted and record.result is not None
        over = self.job is not None and self.job.run == self.wanted and self.job.phase != "active"
        assert recorded or not over, "recorded before its node is given up"
        self.claims[name] = replace(made, phase="deleting")

    # ---- what happens ----

    @rule()
    def look_again(self) -> None:
        self.pass_()

    @rule(after=st.integers(0, 3))
    def crash(self, after: int) -> None:
        self.pass_(after)

    @rule(minutes=st.integers(1, 30))
    def wait(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    @rule()
    def provision(self) -> None:
        for made in self.claims.values():
            made.phase = "ready" if made.phase != "deleting" else made.phase

    @rule()
    def clean_up(self) -> None:
        """The provisioner removes what is to go; pods go with their node."""
        gone = [name for name, made in self.claims.items() if made.phase == "deleting"]
        for name in gone:
            del self.claims[name]
        if gone and self.job is not None and not self.claims:
            self.job.pods = False
        if self.job is not None and self.job.deleting:
            self.job = None

    @precondition(lambda self: self.job is not None and self.job.phase == "active")
    @rule(well=st.booleans())
    def end_job(self, well: bool) -> None:
        assert self.job is not None
        if not self.job.deleting:
            self.job.phase = "complete" if well else "failed"

    @precondition(lambda self: self.job is not None)
    @rule()
    def lose_job(self) -> None:
        """Somebody deletes it."""
        self.job = None

    @rule()
    def lose_node(self) -> None:
        self.claims = {name: made for name, made in self.claims.items() if made.phase != "ready"}

    @rule()
    def edit(self) -> None:
        self.wish += 1

    @rule()
    def change_keeping(self) -> None:
        self.keep = not self.keep

    @rule()
    def settle(self) -> None:
        """With a world that does its part, a run ends, and its node is given up or kept."""
        for _ in range(30):
            self.pass_()
            self.clean_up()
            self.provision()
            if self.job is not None and self.job.phase == "active":
                self.end_job(well=True)
            self.now += timedelta(minutes=15)
        assert self.record is not None
        assert (self.record.run, self.record.result is not None) == (self.wanted, True)
        assert self.keep or not self.claims
        before = (dict(self.claims), self.job, self.record)
        self.pass_()
        assert self.last.actions == ()
        assert (self.claims, self.job, self.record) == before, "what is done stays as it is"

    # ---- what always holds ----

    @invariant()
    def one_node_at_most(self) -> None:
        live = [made for made in self.claims.values() if made.phase != "deleting"]
        assert len(live) <= 1

    @invariant()
    def an_end_once_recorded_stays(self) -> None:
        if self.record is not None and self.record.result is not None:
            told = f"{self.record.result} {self.record.reason} {self.record.digest}"
            assert self.ended.setdefault(self.record.run, told) == told


TestTuning = TuningMachine.TestCase
TestTuning.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
