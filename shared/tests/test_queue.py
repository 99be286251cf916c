"""What the queue hands out, when, and what it never does."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from controlkit.errors import Blocked, NotFound, Rejected, Stale, Transient
from controlkit.kube.objects import Key
from controlkit.queue import RETRY_MOST, STALE_MOST, QueueClosed, WorkQueue
from controlkit_testing import FakeClock

A, B, C = Key("ns", "a"), Key("ns", "b"), Key("", "c")


@asynccontextmanager
async def ticking(queue: WorkQueue) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        timers = group.create_task(queue.run())
        yield
        timers.cancel()


def taken(getting: Coroutine[object, object, Key]) -> Key:
    """The key that `get` returns without waiting."""
    with pytest.raises(StopIteration) as stop:
        getting.send(None)
    key: Key = stop.value.value
    return key


def lasting(queue: WorkQueue) -> list[Key]:
    """Everything in line, in order."""
    keys = [taken(queue.get()) for _ in range(len(queue))]
    for key in keys:
        queue.done(key)
    return keys


def test_a_key_added_twice_is_handed_out_once() -> None:
    queue = WorkQueue()
    queue.add(A)
    queue.add(A)
    assert lasting(queue) == [A]


def test_keys_come_in_the_order_of_their_first_adding() -> None:
    queue = WorkQueue()
    for key in (A, B, A, C):
        queue.add(key)
    assert lasting(queue) == [A, B, C]


def test_an_urgent_key_goes_first_even_if_it_was_in_line_already() -> None:
    queue = WorkQueue()
    for key in (A, B, C):
        queue.add(key)
    queue.add(C, priority=True)
    queue.add(C)
    queue.add(C, priority=True)
    assert lasting(queue) == [C, A, B]


def test_a_key_added_while_a_worker_holds_it_comes_again_and_not_before() -> None:
    queue = WorkQueue()
    queue.add(A)
    assert taken(queue.get()) == A
    queue.add(A)
    queue.add(A)
    assert len(queue) == 0
    queue.done(A)
    assert lasting(queue) == [A]


def test_an_urgent_adding_during_a_pass_stays_urgent() -> None:
    queue = WorkQueue()
    queue.add(A)
    assert taken(queue.get()) == A
    queue.add(A, priority=True)
    queue.add(A)
    queue.add(B)
    queue.done(A)
    assert lasting(queue) == [A, B]


def test_done_for_a_key_that_nobody_holds_is_an_error() -> None:
    with pytest.raises(KeyError):
        WorkQueue().done(A)


async def test_a_waiting_worker_gets_the_next_key() -> None:
    queue = WorkQueue()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(queue.get())
        await asyncio.sleep(0)
        queue.add(A)
    assert waiting.result() == A


async def test_a_cancelled_worker_loses_no_key() -> None:
    queue = WorkQueue()
    first = asyncio.ensure_future(queue.get())
    await asyncio.sleep(0)
    queue.add(A)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await asyncio.wait_for(queue.get(), 1) == A


async def test_closing_ends_every_worker_now_and_later() -> None:
    queue = WorkQueue()
    async with asyncio.TaskGroup() as group:
        workers = [group.create_task(outcome(queue)) for _ in range(3)]
        await asyncio.sleep(0)
        queue.close()
    assert [worker.result() for worker in workers] == ["closed"] * 3
    assert await outcome(queue) == "closed"


async def outcome(queue: WorkQueue) -> str:
    try:
        await queue.get()
    except QueueClosed:
        return "closed"
    return "key"


async def test_a_delayed_key_comes_when_it_is_due() -> None:
    clock = FakeClock()
    queue = WorkQueue(clock=clock)
    async with ticking(queue):
        queue.add_after(A, 30)
        await clock.advance(29.9)
        assert len(queue) == 0
        await clock.advance(0.1)
        assert lasting(queue) == [A]


async def test_no_delay_is_now() -> None:
    queue = WorkQueue(clock=FakeClock())
    queue.add_after(A, 0)
    assert lasting(queue) == [A]


async def test_of_several_delays_the_earliest_counts_and_only_once() -> None:
    clock = FakeClock()
    queue = WorkQueue(clock=clock)
    async with ticking(queue):
        for seconds in (30, 10, 20):
            queue.add_after(A, seconds)
        await clock.advance(10)
        assert lasting(queue) == [A]
        await clock.advance(100)
        assert len(queue) == 0


async def test_an_earlier_timer_set_later_is_not_missed() -> None:
    clock = FakeClock()
    queue = WorkQueue(clock=clock)
    async with ticking(queue):
        queue.add_after(A, 100)
        await clock.advance(1)
        queue.add_after(B, 5)
        await clock.advance(5)
        assert lasting(queue) == [B]


async def test_a_pass_drops_the_timers_it_had_but_not_those_it_sets() -> None:
    clock = FakeClock()
    queue = WorkQueue(clock=clock)
    async with ticking(queue):
        queue.add_after(A, 30)
        queue.add(A)
        assert await queue.get() == A
        queue.add_after(A, 60)
        queue.done(A)
        await clock.advance(59)
        assert len(queue) == 0
        await clock.advance(1)
        assert lasting(queue) == [A]


async def test_a_timer_that_ends_during_a_pass_brings_the_key_again() -> None:
    clock = FakeClock()
    queue = WorkQueue(clock=clock)
    async with ticking(queue):
        queue.add(A)
        assert await queue.get() == A
        queue.add_after(A, 1)
        await clock.advance(2)
        assert len(queue) == 0
        queue.done(A)
        assert lasting(queue) == [A]


async def test_dropped_timers_do_not_pile_up() -> None:
    clock = FakeClock()
    queue = WorkQueue(clock=clock)
    for _ in range(1000):
        queue.add_after(A, 600)
        queue.add(A)
        assert await queue.get() == A
        queue.done(A)
        await clock.advance(0.01)
    assert len(queue._timers) < 100


@pytest.mark.parametrize(
    ("error", "first", "most"),
    [
        pytest.param(Stale("Conflict", "old"), 0.05, STALE_MOST, id="stale-soon"),
        pytest.param(NotFound("NotFound", "gone"), 0.05, STALE_MOST, id="not-found-soon"),
        pytest.param(Transient("Timeout", "late"), 0.5, RETRY_MOST, id="transient-doubles"),
        pytest.param(ValueError("bug"), 0.5, RETRY_MOST, id="a-bug-doubles"),
    ],
)
@pytest.mark.parametrize("chance", [0.0, 1.0])
def test_back_off_doubles_up_to_its_most(
    error: Exception, first: float, most: float, chance: float
) -> None:
    queue = WorkQueue(clock=FakeClock(), chance=lambda: chance)
    delays = [queue.retry(A, error) or 0.0 for _ in range(40)]
    scale = (1 + chance) / 2
    assert delays[0] == pytest.approx(first * scale)
    assert delays[1] == pytest.approx(2 * first * scale)
    assert delays[-1] == pytest.approx(most * scale)
    assert all(earlier <= later for earlier, later in pairwise(delays))


def test_a_retry_waits_as_long_as_the_other_side_asked() -> None:
    queue = WorkQueue(clock=FakeClock(), chance=lambda: 0.5)
    delay = queue.retry(A, Transient("TooManyRequests", "slow down", retry_after=60))
    assert delay is not None
    assert delay >= 60


def test_blocked_waits_the_same_each_time() -> None:
    queue = WorkQueue(clock=FakeClock(), chance=lambda: 0.0)
    blocked = Blocked("QuotaExceeded", "ask for more", retry_after=300)
    assert [queue.retry(A, blocked) for _ in range(3)] == [300.0] * 3


async def test_rejected_comes_back_only_when_added() -> None:
    clock = FakeClock()
    queue = WorkQueue(clock=clock)
    async with ticking(queue):
        assert queue.retry(A, Rejected("Invalid", "edit it")) is None
        await clock.advance(10_000)
        assert len(queue) == 0


def test_failures_count_until_a_success_and_stale_reads_do_not_count() -> None:
    queue = WorkQueue(clock=FakeClock())
    queue.retry(A, Stale("Conflict", "old"))
    assert queue.failures(A) == 0
    queue.retry(A, Transient("Timeout", "late"))
    queue.retry(A, Transient("Timeout", "late"))
    assert (queue.failures(A), queue.failures(B)) == (2, 0)
    queue.forget(A)
    queue.forget(A)
    assert queue.failures(A) == 0


def test_when_everything_fails_the_retries_share_a_rate() -> None:
    queue = WorkQueue(clock=FakeClock(), chance=lambda: 1.0)
    error = Transient("Unreachable", "the API server is away")
    delays = [queue.retry(Key("ns", str(n)), error) or 0.0 for n in range(1100)]
    assert delays[0] == pytest.approx(0.5)
    assert delays[-1] == pytest.approx(1000 / 50, rel=0.05)


KEYS = st.sampled_from([A, B, C])


class NeverLosesOrDoubles(RuleBasedStateMachine):
    """Adds, takes, fails and finishes keys in any order, beside a model of what is owed."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = FakeClock()
        self.queue = WorkQueue(clock=self.clock)
        self.timers = self.runner.run(self.start())
        self.owed: set[Key] = set()
        self.held: set[Key] = set()
        self.due: dict[Key, float] = {}

    async def start(self) -> "asyncio.Task[None]":
        return asyncio.ensure_future(self.queue.run())

    def teardown(self) -> None:
        self.timers.cancel()
        self.runner.close()

    @rule(key=KEYS, urgent=st.booleans())
    def add(self, key: Key, urgent: bool) -> None:
        self.queue.add(key, priority=urgent)
        self.owed.add(key)

    @rule(key=KEYS, seconds=st.floats(0.1, 50))
    def add_after(self, key: Key, seconds: float) -> None:
        self.queue.add_after(key, seconds)
        due = self.clock.monotonic() + seconds
        self.due[key] = min(due, self.due.get(key, due))

    @rule(seconds=st.floats(0, 60))
    def wait(self, seconds: float) -> None:
        self.runner.run(self.clock.advance(seconds))
        for key, due in list(self.due.items()):
            if due <= self.clock.monotonic():
                del self.due[key]
                self.owed.add(key)

    @precondition(lambda self: self.owed - self.held)
    @rule()
    def get(self) -> None:
        key = taken(self.queue.get())
        assert key in self.owed, "handed out for no reason"
        assert key not in self.held, "with two workers at once"
        self.owed.discard(key)
        self.due.pop(key, None)
        self.held.add(key)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), failed=st.booleans())
    def done(self, data: st.DataObject, failed: bool) -> None:
        key = data.draw(st.sampled_from(sorted(self.held)))
        if failed:
            delay = self.queue.retry(key, Transient("Timeout", "late"))
            assert delay is not None
            due = self.clock.monotonic() + delay
            self.due[key] = min(due, self.due.get(key, due))
        else:
            self.queue.forget(key)
        self.queue.done(key)
        self.held.discard(key)

    @invariant()
    def in_line_is_what_is_owed_and_free(self) -> None:
        line = [*self.queue._urgent, *self.queue._normal]
        assert len(line) == len(set(line)), "twice in line"
        assert set(line) == self.owed - self.held


NeverLosesOrDoubles.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None
)
TestNeverLosesOrDoubles = NeverLosesOrDoubles.TestCase


@given(st.lists(st.tuples(KEYS, st.booleans()), max_size=60))
@settings(max_examples=50, deadline=None)
def test_workers_together_see_each_key_after_its_last_adding(
    adds: list[tuple[Key, bool]],
) -> None:
    async def scenario() -> None:
        queue = WorkQueue()
        added: dict[Key, int] = {}
        seen: dict[Key, int] = {}
        busy: set[Key] = set()

        async def work() -> None:
            while True:
                key = await queue.get()
                assert key not in busy
                busy.add(key)
                seen[key] = added[key]
                await asyncio.sleep(0)
                busy.discard(key)
                queue.done(key)

        async with asyncio.TaskGroup() as group:
            workers = [group.create_task(work()) for _ in range(3)]
            for number, (key, pause) in enumerate(adds):
                added[key] = number
                queue.add(key)
                if pause:
                    await asyncio.sleep(0)
            for _ in range(100):
                await asyncio.sleep(0)
            for worker in workers:
                worker.cancel()
        assert seen == added

    asyncio.run(scenario())
