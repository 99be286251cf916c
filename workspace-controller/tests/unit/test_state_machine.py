"""A Workspace against a world that does what it likes: users, provisioners, nodes and crashes.

The planner is the real one; the world stands for the API server and for everybody else. A pass may
be cut off after any of its actions, and sees Workspace and claims as they were when the cache last
caught up.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from workspace_controller.workspaces.facts import (
    Action,
    AddFinalizer,
    ApplyChild,
    Child,
    Claim,
    CreateClaims,
    DeleteClaims,
    LabelNode,
    Node,
    Observed,
    Order,
    Plan,
    ReleaseNodes,
    RemoveChild,
    RemoveFinalizer,
    ReserveNode,
    Scale,
    Serving,
    SlotRecord,
    StartRun,
    Vet,
    VetRun,
)
from workspace_controller.workspaces.plan import decide
from workspace_controller.workspaces.slots import claim_name

START = datetime(2026, 1, 1, tzinfo=UTC)
UID = "u-1"
FREE_NODE = "free-1"
PHASES = ("silent", "launching", "joining", "preparing", "ready")


class StaleError(Exception):
    """The API server refused an action because the picture was old."""


@dataclass
class Made:
    """A claim as the API server has it."""

    slot: int
    attempt: int
    since: datetime
    phase: str = "silent"
    verdict: str = "progress"


@dataclass(frozen=True)
class Known:
    """What a pass believes of the Workspace."""

    held: bool
    deleting_since: datetime | None


class WorkspaceMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.exists, self.held = True, False
        self.count = 2
        self.deleting_since: datetime | None = None
        self.known: Known | None = Known(held=False, deleting_since=None)
        self.claims: dict[str, Made] = {}
        self.cached: dict[str, Made] = {}
        self.nodes: dict[str, Node] = {}
        self.free = False
        self.reserved: set[str] = set()
        self.deployment: int | None = None
        self.present = 0
        self.records: tuple[SlotRecord, ...] = ()
        self.bought: list[str] = []
        self.last: Plan = Plan()

    # ---- a pass ----

    def look(self, known: Known) -> Observed:
        live = known.deleting_since is not None and not self.cached
        claims = self.claims if live else self.cached
        owner: Any = "absent" if self.deployment is None else "ours"
        found = "" if self.deployment is None else "d"
        return Observed(
            now=self.now,
            uid=UID,
            deleting_since=known.deleting_since,
            held=known.held,
            wanted=self.count,
            claims=tuple(self.as_seen(name, claim) for name, claim in claims.items()),
            claims_are_live=live,
            nodes=dict(self.nodes),
            reserved=tuple(sorted(self.reserved)),
            adoptable=(FREE_NODE,) if self.free and not self.reserved else (),
            records=self.records,
            children=(Child("Deployment", "d", found, owner),),
            serving=Serving(
                asked=self.deployment or 0,
                present=self.present,
                ready=min(self.present, len(self.nodes)),
                updated=self.present,
            ),
        )

    def as_seen(self, name: str, claim: Made) -> Claim:
        facts: dict[str, Any] = {"phase": claim.phase, "verdict": claim.verdict}
        node = f"node-{name}" if claim.phase in ("preparing", "ready") else ""
        return Claim(
            name, "Machine", since=claim.since, slot=claim.slot, attempt=claim.attempt, node=node,
            **facts,
        )  # fmt: skip

    def pass_(self, cut: int | None = None) -> None:
        """One pass; with `cut`, the process dies after that many actions."""
        if self.known is None:
            return
        self.last = decide(self.look(self.known))
        actions = self.last.actions if cut is None else self.last.actions[:cut]
        try:
            for action in actions:
                self.carry_out(action)
        except StaleError:
            self.catch_up_()
            return
        report = self.last.report
        if cut is None and report is not None and report.records is not None:
            self.records = report.records
        self.catch_up_()  # the controller waits for its own writes, a new process lists anew

    def carry_out(self, action: Action) -> None:
        match action:
            case AddFinalizer():
                if not self.exists or self.deleting_since is not None:
                    raise StaleError
                self.held = True
            case RemoveFinalizer():
                assert not self.claims, "the finalizer went while claims were left"
                assert not self.reserved, "the finalizer went while nodes were reserved"
                self.exists = False
            case CreateClaims():
                for order in action.orders:
                    self.create(order)
            case DeleteClaims():
                for claim in action.claims:
                    self.delete(claim.name)
            case ApplyChild() | Scale() | RemoveChild():
                self.deploy(action)
            case Vet() | VetRun() | StartRun():
                assert isinstance(action, Vet), "a Workspace that serves has no run"
            case _:
                self.touch_nodes(action)

    def deploy(self, action: ApplyChild | Scale | RemoveChild) -> None:
        if isinstance(action, RemoveChild):
            self.deployment, self.present = None, 0
        else:
            self.deployment = action.replicas if isinstance(action, Scale) else self.count

    def touch_nodes(self, action: ReserveNode | ReleaseNodes | LabelNode) -> None:
        match action:
            case ReserveNode():
                assert action.name not in self.reserved, "a node is reserved once"
                self.reserved.add(action.name)
            case ReleaseNodes():
                self.reserved -= set(action.names)
            case LabelNode():
                self.nodes[action.name] = replace(self.nodes[action.name], labelled=True)

    def create(self, order: Order) -> None:
        assert self.exists, "nothing is bought for a Workspace that is gone"
        assert self.held, "nothing is bought before the finalizer is there"
        if order.after in self.claims:
            raise StaleError
        name = claim_name(UID, order.slot, order.attempt)
        if name in self.claims:
            if self.claims[name].phase == "deleting":
                raise StaleError
            return
        assert all(c.slot != order.slot for c in self.claims.values()), "the slot is not empty yet"
        self.claims[name] = Made(order.slot, order.attempt, self.now)
        self.bought.append(name)

    def delete(self, name: str) -> None:
        claim = self.claims.get(name)
        if claim is not None and claim.phase != "deleting":
            self.claims[name] = replace(claim, phase="deleting", since=self.now)

    def catch_up_(self) -> None:
        self.known = Known(self.held, self.deleting_since) if self.exists else None
        self.cached = dict(self.claims)

    # ---- the controller ----

    @rule()
    def reconcile(self) -> None:
        self.pass_()

    @rule(after=st.integers(0, 4))
    def crash(self, after: int) -> None:
        self.pass_(cut=after)

    @rule()
    def catch_up(self) -> None:
        self.catch_up_()

    # ---- the user ----

    @rule(count=st.integers(1, 3))
    def scale(self, count: int) -> None:
        self.count = count

    @precondition(lambda self: self.deleting_since is None)
    @rule()
    def delete_workspace(self) -> None:
        self.deleting_since = self.now
        if not self.held:
            self.exists = False

    @rule(which=st.integers(0, 5))
    def delete_a_claim(self, which: int) -> None:
        if self.claims:
            self.delete(sorted(self.claims)[which % len(self.claims)])

    # ---- the provisioner ----

    @rule(which=st.integers(0, 5))
    def advance(self, which: int) -> None:
        moving = sorted(name for name, c in self.claims.items() if c.phase in PHASES[:-1])
        if moving:
            self.advance_(moving[which % len(moving)])

    def advance_(self, name: str) -> None:
        claim = self.claims[name]
        phase = PHASES[PHASES.index(claim.phase) + 1]
        self.claims[name] = replace(claim, phase=phase, verdict="progress", since=self.now)
        if phase == "preparing":
            self.nodes[f"node-{name}"] = Node(f"node-{name}", gpus=0, labelled=False)
        if phase == "ready":
            self.nodes[f"node-{name}"] = Node(f"node-{name}", gpus=1)

    @rule(which=st.integers(0, 5), verdict=st.sampled_from(["blocked", "broken", "progress"]))
    def fail(self, which: int, verdict: str) -> None:
        launching = sorted(n for n, c in self.claims.items() if c.phase in ("silent", "launching"))
        if launching:
            name = launching[which % len(launching)]
            self.claims[name] = replace(
                self.claims[name], phase="launching", verdict=verdict, since=self.now
            )

    @rule(which=st.integers(0, 5))
    def finish_a_deletion(self, which: int) -> None:
        leaving = sorted(name for name, c in self.claims.items() if c.phase == "deleting")
        if leaving:
            self.forget(leaving[which % len(leaving)])

    @rule(which=st.integers(0, 5))
    def give_up_a_claim(self, which: int) -> None:
        if self.claims:
            self.forget(sorted(self.claims)[which % len(self.claims)])

    def forget(self, name: str) -> None:
        del self.claims[name]
        self.nodes.pop(f"node-{name}", None)

    # ---- nodes, pods, time ----

    @rule(which=st.integers(0, 5), ready=st.booleans())
    def flip_a_node(self, which: int, ready: bool) -> None:
        if self.nodes:
            name = sorted(self.nodes)[which % len(self.nodes)]
            self.nodes[name] = replace(self.nodes[name], ready=ready)

    @precondition(lambda self: not self.reserved)
    @rule(free=st.booleans())
    def a_free_node(self, free: bool) -> None:
        self.free = free
        self.nodes.pop(FREE_NODE, None)
        if free:
            self.nodes[FREE_NODE] = Node(FREE_NODE, gpus=1)

    @rule()
    def pods_follow(self) -> None:
        self.present = self.deployment or 0

    @rule(seconds=st.sampled_from([1, 10, 60, 600, 1200]))
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    # ---- what always holds ----

    @invariant()
    def a_slot_has_one_live_claim(self) -> None:
        live = [claim.slot for claim in self.claims.values() if claim.phase != "deleting"]
        assert len(live) == len(set(live)), "two live claims for one slot"

    @invariant()
    def a_name_is_bought_once_at_a_time(self) -> None:
        assert len(self.claims) <= len(self.bought)

    @invariant()
    def claims_never_outlive_their_workspace(self) -> None:
        assert self.exists or not self.claims, "the Workspace is gone and a claim is left"

    def teardown(self) -> None:
        """Whatever happened: left alone, the world comes to the right end."""
        for _ in range(80):
            self.now += timedelta(seconds=61)
            self.nodes = {name: replace(node, ready=True) for name, node in self.nodes.items()}
            for name, claim in list(self.claims.items()):
                if claim.phase == "deleting":
                    self.forget(name)
                elif claim.phase != "ready" and claim.verdict != "broken":
                    self.advance_(name)
            self.present = self.deployment or 0
            self.catch_up_()
            self.pass_()
        if self.deleting_since is not None:
            assert not self.exists
            assert not self.claims
            return
        live = [claim for claim in self.claims.values() if claim.phase == "ready"]
        assert len(live) + len(self.reserved) == self.count == self.deployment
        assert self.last.report is not None
        assert self.last.report.workspace.outlook == "good", self.last.report
        assert self.last.actions == ()


TestAnyHistoryEndsWell = WorkspaceMachine.TestCase
TestAnyHistoryEndsWell.settings = settings(
    max_examples=300, stateful_step_count=40, deadline=None, derandomize=True
)
