"""One claim's whole life against a user, Azure, a node and crashes, in every order.

What must hold at any moment: a pool is asked for only for a claim that is held and marked; no claim
is gone while its pool is there; no VM is removed under a pod that may still leave. And from any
moment on, once the faults stop, everything comes to its end.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from provisioner_world.builders import NAME, NOW, SIZE, node, pod

from gpu_provisioner.azure.errors import AzureError, Failure
from gpu_provisioner.azure.pools import Pool
from gpu_provisioner.binding import belongs
from gpu_provisioner.claims.actions import (
    Action,
    AwaitTurn,
    ConfirmGone,
    Cordon,
    CreatePool,
    DeleteClaim,
    DeletePool,
    Evict,
    Hold,
    MarkInitialized,
    MarkStarted,
    Observed,
    RegisterNode,
    Release,
    ReleaseNode,
    Remember,
)
from gpu_provisioner.claims.claim import Claim
from gpu_provisioner.claims.machine import MachineDialect
from gpu_provisioner.claims.plan import decide
from gpu_provisioner.claims.progress import Progress
from gpu_provisioner.claims.refusals import Refusals
from gpu_provisioner.claims.shape import pool_for
from gpu_provisioner.nodes.registration import (
    cordon_patch,
    held,
    initialized_patch,
    registration_patch,
    release_patch,
)
from gpuapis.core import Node, Pod
from gpuapis.labels import PROVISION_STARTED, TERMINATION_FINALIZER
from gpuapis.machine import Machine

DIALECT = MachineDialect()
STAGES = (0, 0, 1, 2, 3, 4, 6)
"""Steps that all goes well before the faults begin."""

REFUSED = st.sampled_from(
    ["quota", "capacity", "throttled", "transient", "conflict", "credentials"]
)


class Crash(Exception):
    """The process ends here."""


class Clock:
    """Time that the rules move."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("a planner does not sleep")


class World:
    """Kubernetes and Azure, as far as one claim can tell."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.machine: dict[str, Any] | None = None
        self.uids = 0
        self.pool: Pool | None = None
        self.node: Node | None = None
        self.pods: tuple[Pod, ...] = ()
        self.refuse: list[Failure] = []
        self.cut = False
        self.etags = 0
        self.accepted: dict[str, int] = {}
        self.lost: dict[str, int] = {}

    # Kubernetes

    def claim(self) -> Claim | None:
        return DIALECT.read(Machine.model_validate(self.machine)) if self.machine else None

    def create_machine(self) -> None:
        self.uids += 1
        self.machine = {
            "metadata": {
                "name": NAME,
                "uid": f"uid-{self.uids}",
                "generation": 1,
                "labels": {"kaito.sh/workspace": "phi-3"},
                "annotations": {},
                "finalizers": [],
                "creationTimestamp": self.clock.now().isoformat(),
            },
            "spec": {
                "requirements": [
                    {"key": "node.kubernetes.io/instance-type", "operator": "In", "values": [SIZE]}
                ],
                "resources": {"requests": {"nvidia.com/gpu": "1"}},
                "taints": [{"key": "sku", "value": "gpu", "effect": "NoSchedule"}],
            },
            "status": {},
        }

    def delete_machine(self) -> None:
        if self.machine is None:
            return
        if self.machine["metadata"]["finalizers"]:
            self.machine["metadata"].setdefault("deletionTimestamp", self.clock.now().isoformat())
        else:
            self.machine = None

    def release_machine(self) -> None:
        assert self.machine is not None
        self.machine["metadata"]["finalizers"] = []
        if "deletionTimestamp" in self.machine["metadata"]:
            self.machine = None

    def patch_node(self, patch: dict[str, Any] | None) -> None:
        if patch is None or self.node is None:
            return
        raw = self.node.manifest()
        for name, value in patch.get("metadata", {}).items():
            held_before = raw["metadata"].get(name)
            merged = {**held_before, **value} if isinstance(held_before, dict) else value
            raw["metadata"][name] = merged
        raw["spec"] |= patch.get("spec", {})
        self.node = Node.model_validate(raw)

    def delete_node(self) -> None:
        if self.node is None:
            return
        if self.node.metadata.finalizers:
            raw = self.node.manifest()
            raw["metadata"].setdefault("deletionTimestamp", self.clock.now().isoformat())
            self.node = Node.model_validate(raw)
        else:
            self.node = None

    # Azure

    def put(self, spec: Any) -> Pool:
        claim = self.claim()
        assert claim is not None, "a pool is asked for without a claim"
        assert claim.held, "a pool is asked for without a finalizer"
        assert claim.started, "a pool is asked for without a mark"
        assert not claim.deleting, "a pool is asked for a claim that is going"
        if self.refuse:
            raise AzureError(self.refuse.pop())
        if self.pool is None:
            uid = claim.uid
            self.accepted[uid] = self.accepted.get(uid, 0) + 1
            # One request is enough, unless the pool failed or somebody took it away.
            assert self.accepted[uid] <= self.lost.get(uid, 0) + 1, "two pools for one claim"
            self._set(
                Pool(
                    NAME, "InProgress", "Creating", vm_size=SIZE, labels=spec.labels, tags=spec.tags
                )
            )
        if self.cut:
            self.cut = False
            raise AzureError(Failure("transient", "the line was cut"))
        assert self.pool is not None
        return self.pool

    def delete_pool(self, seen: Pool) -> None:
        if self.refuse:
            raise AzureError(self.refuse.pop())
        if self.pool is None:
            return
        if seen.etag != self.pool.etag:
            raise AzureError(Failure("changed", "etag"))
        if self.pool.state == "InProgress":
            self._set(replace(self.pool, state="Failed", phase="Canceled"))
            raise AzureError(Failure("conflict", "in progress"))
        claim = self.claim()
        # The VM of a pool that failed to come up is given up with whatever has strayed onto it.
        bound = claim is None or claim.deleting is not None
        registered = self.node is not None and held(self.node)
        assert not (bound and registered and self.pods), "a VM is removed under its pods"
        self.begin_deletion()

    def begin_deletion(self) -> None:
        assert self.pool is not None
        uid = self.pool.tags["gpu-provisioner-claim-uid"]
        if self.pool.state != "Deleting":
            self.lost[uid] = self.lost.get(uid, 0) + 1
        self._set(replace(self.pool, state="Deleting", phase="Deleting"))

    def _set(self, pool: Pool) -> None:
        self.etags += 1
        self.pool = replace(pool, etag=f"e{self.etags}")


class Provisioner:
    """The controller around the planner, without its I/O."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.refusals = Refusals(world.clock)
        self.view: dict[str, Pool] | None = None
        self.asked = 0.0

    def list_pools(self) -> None:
        self.view = {NAME: self.world.pool} if self.world.pool else {}
        self.asked = self.world.clock.seconds

    def observe(self, claim: Claim) -> Observed:
        now = self.world.clock.now()
        pool = (self.view or {}).get(NAME)
        on_node = claim.deleting and pool is not None and belongs(pool, claim)
        return Observed(
            claim=claim,
            now=now,
            wanted=pool_for(claim, now),
            pool=pool,
            nodes=(self.world.node,) if self.world.node else (),
            pods=self.world.pods if on_node else (),
            view_age=None if self.view is None else self.world.clock.seconds - self.asked,
            refused=self.refusals.creating(claim),
            undeletable=self.refusals.deleting(claim),
        )

    def work(self, crash_after: int | None = None) -> None:
        claim = self.world.claim()
        if claim is None:
            return
        plan = decide(self.observe(claim))
        progress = plan.progress
        for number, action in enumerate(plan.actions):
            if number == crash_after:
                raise Crash
            try:
                self.carry_out(claim, action)
            except AzureError as error:
                self.note(claim, action, error.failure)
                progress = decide(self.observe(claim)).progress
                break
        if crash_after is not None and crash_after >= len(plan.actions):
            raise Crash
        if progress is not None and self.world.machine is not None:
            self.report(claim, progress)

    def note(self, claim: Claim, action: Action, failure: Failure) -> None:
        match action:
            case DeletePool(pool):
                self.refusals.note_deletion(claim, failure, pool)
            case ConfirmGone():
                self.refusals.note_deletion(claim, failure)
            case _:
                self.refusals.note_creation(claim, failure)

    def report(self, claim: Claim, progress: Progress) -> None:
        assert self.world.machine is not None
        status = DIALECT.status(claim, progress, self.world.clock.now())
        self.world.machine["status"] = {**self.world.machine["status"], **status}

    def carry_out(self, claim: Claim, action: Action) -> None:
        world = self.world
        match action:
            case Hold():
                assert world.machine is not None
                world.machine["metadata"]["finalizers"] = [TERMINATION_FINALIZER]
            case MarkStarted(at):
                assert world.machine is not None
                world.machine["metadata"]["annotations"][PROVISION_STARTED] = at.isoformat()
            case Release():
                world.release_machine()
            case DeleteClaim():
                world.delete_machine()
            case Remember(failure):
                self.refusals.note_creation(claim, failure)
            case CreatePool() | DeletePool() | ConfirmGone() | AwaitTurn():
                self.ask_azure(claim, action)
            case RegisterNode() | MarkInitialized() | Cordon() | ReleaseNode():
                self.change_node(claim, action)
            case Evict(pod_):
                world.pods = tuple(each for each in world.pods if each is not pod_)

    def ask_azure(
        self, claim: Claim, action: CreatePool | DeletePool | ConfirmGone | AwaitTurn
    ) -> None:
        world = self.world
        match action:
            case CreatePool(spec):
                made = world.put(spec)
                self.learn()
                if not belongs(made, claim):
                    raise AzureError(Failure("changed", "not ours"))
            case DeletePool(pool):
                try:
                    world.delete_pool(pool)
                finally:
                    self.learn()
                self.refusals.forget_deletion(claim.uid)
            case ConfirmGone():
                self.learn()
                if world.pool is not None:
                    raise AzureError(Failure("changed", "still there"))

    def change_node(
        self, claim: Claim, action: RegisterNode | MarkInitialized | Cordon | ReleaseNode
    ) -> None:
        world = self.world
        match action:
            case RegisterNode(seen):
                world.patch_node(registration_patch(seen, claim))
            case MarkInitialized(seen):
                world.patch_node(initialized_patch(seen))
            case Cordon(seen):
                world.patch_node(cordon_patch(seen))
            case ReleaseNode(seen):
                world.patch_node(release_patch(seen))
                world.delete_node()

    def learn(self) -> None:
        """Azure's answer about the one pool, which is newer than the last list."""
        self.view = {NAME: self.world.pool} if self.world.pool else {}


class ClaimLife(RuleBasedStateMachine):
    """The rules."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.world = World(self.clock)
        self.provisioner = Provisioner(self.world)

    @initialize(stage=st.integers(0, len(STAGES) - 1))
    def life_has_come_to(self, stage: int) -> None:
        """Chance alone seldom comes far; so it begins anywhere in a life without faults."""
        if stage == 0:
            return
        self.world.create_machine()
        for _ in range(STAGES[stage]):
            self.provisioner.list_pools()
            self.provisioner.work()
            self._azure_does_well()
            self.provisioner.list_pools()

    # The user

    @precondition(lambda self: self.world.machine is None)
    @rule()
    def user_creates_the_claim(self) -> None:
        self.world.create_machine()

    @rule()
    def user_deletes_the_claim(self) -> None:
        self.world.delete_machine()

    @rule()
    def user_deletes_the_node(self) -> None:
        self.world.delete_node()

    @precondition(lambda self: self.world.node is not None)
    @rule()
    def user_runs_a_pod(self) -> None:
        assert self.world.node is not None
        if not any(taint.key == "karpenter.sh/disrupted" for taint in self.world.node.spec.taints):
            self.world.pods = (pod(f"model-{len(self.world.pods)}"), *self.world.pods)

    # The provisioner

    @rule(passes=st.integers(1, 4), sees=st.booleans())
    def provisioner_works(self, passes: int, sees: bool) -> None:
        if sees:
            self.provisioner.list_pools()
        for _ in range(passes):
            self.provisioner.work()

    @rule(after=st.integers(0, 4))
    def provisioner_crashes(self, after: int) -> None:
        try:
            self.provisioner.work(crash_after=after)
        except Crash:
            self.provisioner = Provisioner(self.world)

    # Azure

    @rule(kind=REFUSED)
    def azure_will_refuse(self, kind: Any) -> None:
        self.world.refuse = [Failure(kind, f"{kind}.")]

    @rule()
    def azure_will_cut_the_line(self) -> None:
        self.world.cut = True

    @precondition(
        lambda self: self.world.pool is not None and self.world.pool.state == "InProgress"
    )
    @rule(well=st.booleans())
    def azure_ends_the_creation(self, well: bool) -> None:
        assert self.world.pool is not None
        error = "" if well else '{"code":"AllocationFailed","message":"none left"}'
        state: Any = "Succeeded" if well else "Failed"
        self.world._set(replace(self.world.pool, state=state, phase=state, error=error))

    @precondition(lambda self: self.world.pool is not None and self.world.pool.state == "Deleting")
    @rule()
    def azure_ends_the_deletion(self) -> None:
        self.world.pool = None
        self.world.pods = ()
        self.world.delete_node()

    @precondition(lambda self: self.world.pool is not None)
    @rule()
    def somebody_deletes_the_pool(self) -> None:
        self.world.begin_deletion()

    # The node

    @precondition(
        lambda self: (
            self.world.node is None
            and self.world.pool is not None
            and self.world.pool.state in {"InProgress", "Succeeded"}
        )
    )
    @rule()
    def node_joins(self) -> None:
        self.world.node = node(registered=False, ready=False, gpu=0)

    @precondition(lambda self: self.world.node is not None)
    @rule(ready=st.booleans(), gpu=st.integers(0, 1))
    def node_reports(self, ready: bool, gpu: int) -> None:
        assert self.world.node is not None
        fresh = node(ready=ready, gpu=gpu)
        self.world.node = self.world.node.model_copy(update={"status": fresh.status})

    @rule(seconds=st.sampled_from([1.0, 30.0, 120.0, 1_000.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.seconds += seconds

    # What must always hold

    @invariant()
    def a_pool_has_its_claim(self) -> None:
        pool = self.world.pool
        if pool is not None:
            claim = self.world.claim()
            assert claim is not None, "a pool is left behind"
            assert belongs(pool, claim), "a pool outlived its claim"

    @invariant()
    def what_is_told_is_true(self) -> None:
        claim = self.world.claim()
        if claim is not None and claim.is_true("Registered"):
            assert claim.provider_id
            assert claim.is_true("Launched")

    def teardown(self) -> None:
        """From here on all goes well; then everything must come to its end."""
        self.world.refuse, self.world.cut = [], False
        self._settle(self._is_settled)
        self.world.delete_machine()
        self._settle(lambda: self.world.machine is None and self.world.pool is None)

    def _settle(self, done: Callable[[], bool]) -> None:
        for _ in range(80):
            if done():
                return
            self.clock.seconds += 61.0
            self.provisioner.list_pools()
            self.provisioner.work()
            self._azure_does_well()
        raise AssertionError(f"it does not end: {self.world.machine} {self.world.pool}")

    def _is_settled(self) -> bool:
        claim = self.world.claim()
        return claim is None or claim.is_true("Initialized")

    def _azure_does_well(self) -> None:
        pool = self.world.pool
        if pool is None:
            return
        if pool.state == "Deleting":
            self.azure_ends_the_deletion()
        elif pool.state == "InProgress":
            self.azure_ends_the_creation(well=True)
        elif pool.state == "Succeeded":
            claim = self.world.claim()
            if self.world.node is None:
                # Nothing but a claim that is on its way can still get its node.
                if claim is not None and claim.is_true("Registered"):
                    self.world.delete_machine()  # the collector's part
                else:
                    self.node_joins()
            self.world.node = self.world.node and self.world.node.model_copy(
                update={"status": node().status}
            )


ClaimLife.TestCase.settings = settings(
    max_examples=200,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.filter_too_much],
)
TestClaimLife = ClaimLife.TestCase
