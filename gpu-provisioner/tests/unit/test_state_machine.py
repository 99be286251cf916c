"""Claims and their pools against users, Azure, nodes and crashes, in every order.

What must hold at any moment: a VM is asked for only for claims that are held and have their place
written down; no VM is deleted under a claim that stays; no node has two owners, no claim two nodes;
no claim is gone while its VM is there. And from any moment on, once the faults stop, every claim has
a VM of its own and no VM is nobody's; and when all claims are deleted, nothing is left.
"""

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
from provisioner_world.small_world import SmallWorld

from gpu_provisioner.azure.errors import Failure
from gpuapis.core import Node

REFUSED = st.sampled_from(
    ["quota", "capacity", "throttled", "transient", "conflict", "credentials"]
)
CALLS = ("put", "grow", "delete", "delete-machines", "machines", "get")
ANY = st.integers(0, 100)


class Lives(RuleBasedStateMachine):
    """The rules."""

    world: SmallWorld

    @initialize(mode=st.sampled_from(["dedicated", "shared"]), claims=ANY, steps=ANY)
    def lives_have_come_so_far(self, mode: Any, claims: int, steps: int) -> None:
        """Chance alone seldom comes far; so it begins anywhere in a life without faults."""
        self.world = SmallWorld(mode)
        for _ in range(claims % 5):
            self.world.create()
        for _ in range(steps % 9):
            self._all_goes_well()

    # The user

    @precondition(lambda self: self.world.created < 8)
    @rule()
    def user_creates_a_claim(self) -> None:
        self.world.create()

    @rule(which=ANY)
    def user_deletes_a_claim(self, which: int) -> None:
        names = sorted(claim["metadata"]["name"] for claim in self.world.claims())
        if names:
            self.world.delete(names[which % len(names)])

    @rule(which=ANY)
    def user_deletes_a_node(self, which: int) -> None:
        nodes = sorted(node["metadata"]["name"] for node in self.world.api.all(Node.RESOURCE))
        if nodes:
            self.world.azure.forget(nodes[which % len(nodes)])

    # The provisioner

    @rule(sees=st.booleans(), lists=st.booleans(), passes=st.integers(1, 3))
    def provisioner_works(self, sees: bool, lists: bool, passes: int) -> None:
        for _ in range(passes):
            if sees:
                self.world.see()
            if lists:
                self.world.list_pools()
            self.world.work()

    @rule(after=st.integers(0, 12))
    def provisioner_crashes(self, after: int) -> None:
        self.world.list_pools()
        self.world.work(crash_after=after)
        self.world.list_pools()

    @rule(mode=st.sampled_from(["dedicated", "shared"]))
    def operator_changes_the_mode(self, mode: Any) -> None:
        self.world.mode = mode
        self.world.start()

    @rule(seconds=st.sampled_from([1.0, 6.0, 31.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.advance(seconds)

    @rule()
    def collector_sweeps(self) -> None:
        self.world.sweep()

    # Azure

    @rule(kind=REFUSED, call=st.sampled_from(CALLS))
    def azure_will_refuse(self, kind: Any, call: str) -> None:
        self.world.azure.fail[call] = [Failure(kind, f"{kind}.")]

    @rule(call=st.sampled_from(["put", "grow", "delete", "delete-machines"]))
    def azure_will_cut_the_line(self, call: str) -> None:
        self.world.azure.cut.add(call)

    @rule(which=ANY, well=st.booleans(), keep=st.integers(0, 3))
    def azure_ends_an_operation(self, which: int, well: bool, keep: int) -> None:
        busy = self._busy()
        if busy:
            self.world.end(busy[which % len(busy)], well=well, keep=keep)

    @rule(which=ANY)
    def vm_joins(self, which: int) -> None:
        if vms := self.world.vms():
            self.world.join(vms[which % len(vms)])

    @rule(which=ANY)
    def azure_takes_a_vm_away(self, which: int) -> None:
        if vms := self.world.vms():
            self.world.evict(vms[which % len(vms)])

    @rule(which=ANY)
    def somebody_deletes_a_pool(self, which: int) -> None:
        if names := sorted(self.world.azure.pools):
            self.world.azure.end(names[which % len(names)], "Deleting")

    # What must hold

    @invariant()
    def nothing_is_bound_twice(self) -> None:
        if hasattr(self, "world"):
            self.world.check()

    def teardown(self) -> None:
        """The faults stop; then everything must come to its end."""
        if not hasattr(self, "world"):
            return
        try:
            self.world.azure.fail.clear()
            self.world.azure.cut.clear()
            self._settle("well")
            for claim in self.world.claims():
                self.world.delete(claim["metadata"]["name"])
            self._settle("gone")
        finally:
            self.world.close()

    def _settle(self, how: str) -> None:
        for _ in range(120):
            if self.world.ready() if how == "well" else self.world.bare():
                return
            self.world.advance(31.0)
            self._all_goes_well()
            self.world.sweep()
        raise AssertionError(f"it does not end {how}:\n{self.world.story()}")

    def _all_goes_well(self) -> None:
        world = self.world
        world.see()
        world.list_pools()
        world.work()
        for name in self._busy():
            world.end(name, well=True)
        for vm in world.vms():
            if not world.lost(vm):
                world.join(vm)
        for node in world.api.all(Node.RESOURCE):
            # AKS deletes the object of a node whose VM is gone.
            if node["metadata"]["name"] not in world.vms():
                world.azure.forget(node["metadata"]["name"])

    def _busy(self) -> list[str]:
        return sorted(
            name
            for name, pool in self.world.azure.pools.items()
            if pool.state in {"InProgress", "Deleting"}
        )


Lives.TestCase.settings = settings(
    max_examples=80,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.filter_too_much],
)
TestLives = Lives.TestCase
