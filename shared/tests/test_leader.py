"""Who leads, and that never two do; in virtual time."""

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from structlog.testing import capture_logs

from controlkit.errors import ControlError, NotFound, Transient
from controlkit.kube.objects import Key
from controlkit.leader import LeaderElector, LeadershipLost, Lease, unique_identity
from controlkit_testing import LoopClock, MemoryApi
from controlkit_testing.api import Hang

pytestmark = pytest.mark.looptime

KEY = Key("kube-system", "controller")


class Replica:
    """A candidate on a wire of its own, so that it alone can be cut off."""

    def __init__(self, api: MemoryApi, name: str) -> None:
        self.name = name
        self.spans: list[tuple[float, float]] = []
        self.outcome: BaseException | None = None
        self.leads = asyncio.Event()
        self.elector = LeaderElector(
            api.client(), name=KEY.name, namespace=KEY.namespace, identity=name, clock=LoopClock()
        )

    async def lead(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        self.leads.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.spans.append((began, loop.time()))

    async def run(self) -> None:
        try:
            await self.elector.run(self.lead)
        except LeadershipLost as error:
            self.outcome = error


def spec(api: MemoryApi) -> dict[str, Any]:
    lease = api.see(Lease.RESOURCE, KEY)
    assert lease is not None
    found: dict[str, Any] = lease["spec"]
    return found


def failing(error: ControlError, *verbs: str) -> Callable[[str, str], ControlError | None]:
    return lambda verb, _path: error if verb in verbs else None


async def test_the_first_candidate_leads_and_says_since_when() -> None:
    api = MemoryApi()
    first = Replica(api, "first")
    async with asyncio.TaskGroup() as group:
        task = group.create_task(first.run())
        await asyncio.sleep(10)
        assert first.elector.leading
        term = spec(api)
        assert term["holderIdentity"] == "first"
        assert term["leaseDurationSeconds"] == 15
        assert term["leaseTransitions"] == 0
        assert term["acquireTime"] == "2030-01-01T00:00:00.000000Z"
        assert "2030-01-01T00:00:08" <= term["renewTime"] <= "2030-01-01T00:00:10Z"
        task.cancel()


async def test_on_stop_the_lease_is_handed_over_at_once() -> None:
    api = MemoryApi()
    first, second = Replica(api, "first"), Replica(api, "second")
    async with asyncio.TaskGroup() as group:
        one = group.create_task(first.run())
        await asyncio.sleep(1)
        two = group.create_task(second.run())
        await asyncio.sleep(30)
        assert not second.leads.is_set()
        one.cancel()
        await asyncio.sleep(3)
        assert second.leads.is_set()
        assert first.elector.last_moment is None
        assert spec(api)["leaseTransitions"] == 1
        two.cancel()
    assert spec(api)["holderIdentity"] == ""


async def test_when_the_leader_dies_the_other_leads_within_twenty_seconds() -> None:
    api = MemoryApi()
    first, second = Replica(api, "first"), Replica(api, "second")
    async with asyncio.TaskGroup() as group:
        one = group.create_task(first.run())
        two = group.create_task(second.run())
        await asyncio.sleep(60)
        leader, other = (first, second) if first.elector.leading else (second, first)
        api.fault = failing(Transient("Dead", "the process is gone"), "PATCH")
        (one if leader is first else two).cancel()  # cannot hand over: as good as kill -9
        await asyncio.sleep(0.1)
        api.fault = failing(Transient("", ""), "NONE")
        died = asyncio.get_running_loop().time()
        await other.leads.wait()
        waited = asyncio.get_running_loop().time() - died
        assert 12 < waited < 20
        (two if leader is first else one).cancel()


async def test_a_leader_that_is_cut_off_stops_before_another_begins() -> None:
    api = MemoryApi()
    cut_api = CutOff(api)
    first = Replica(api, "first")
    first.elector._client = cut_api.client()
    second = Replica(api, "second")
    async with asyncio.TaskGroup() as group:
        group.create_task(first.run())
        await asyncio.sleep(1)
        two = group.create_task(second.run())
        await asyncio.sleep(20.5)
        cut_api.gone = True
        await asyncio.sleep(60)
        assert isinstance(first.outcome, LeadershipLost)
        assert second.elector.leading
        two.cancel()
    [(_, ended)], [(began, _)] = first.spans, second.spans
    assert began - ended >= 15 - 10
    assert began - 21.5 < 20


class CutOff(MemoryApi):
    """A wire to another server that can be cut: calls then wait for their deadline."""

    def __init__(self, behind: MemoryApi) -> None:
        super().__init__()
        self.behind = behind
        self.gone = False

    async def request(self, verb: str, path: str, **rest: Any) -> bytes:
        if self.gone:
            self.fault = lambda _verb, _path: Hang("", "")
            return await super().request(verb, path, **rest)
        return await self.behind.request(verb, path, **rest)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Transient("Unreachable", "connection refused"), id="refused"),
        pytest.param(Hang("", ""), id="silent"),
    ],
)
async def test_losing_the_api_server_ends_leading_within_the_renew_deadline(
    fault: ControlError,
) -> None:
    api = MemoryApi()
    first = Replica(api, "first")
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        group.create_task(first.run())
        await asyncio.sleep(20.5)
        api.fault = lambda _verb, _path: fault
        lost = loop.time()
    [(_, ended)] = first.spans
    assert 7.5 <= ended - lost <= 10.1
    assert isinstance(first.outcome, LeadershipLost)
    assert "not renewed for 10 s" in str(first.outcome)


async def test_a_short_outage_costs_nothing() -> None:
    api = MemoryApi()
    first = Replica(api, "first")
    async with asyncio.TaskGroup() as group:
        task = group.create_task(first.run())
        await asyncio.sleep(10)
        api.fault = lambda _verb, _path: Transient("Unreachable", "restarting")
        await asyncio.sleep(7)
        api.fault = lambda _verb, _path: None
        await asyncio.sleep(60)
        assert first.elector.leading
        task.cancel()
    assert len(first.spans) == 1


async def test_somebody_else_in_the_lease_ends_leading_at_once() -> None:
    api = MemoryApi()
    first = Replica(api, "first")
    async with asyncio.TaskGroup() as group:
        group.create_task(first.run())
        await asyncio.sleep(10)
        await api.client().merge_patch(Lease.RESOURCE, KEY, {"spec": {"holderIdentity": "usurper"}})
        stolen = asyncio.get_running_loop().time()
    [(_, ended)] = first.spans
    assert ended - stolen <= 2.1
    assert "held by usurper" in str(first.outcome)
    assert spec(api)["holderIdentity"] == "usurper", "what is not ours is not handed over"


async def test_a_deleted_lease_ends_leading() -> None:
    api = MemoryApi()
    first = Replica(api, "first")
    async with asyncio.TaskGroup() as group:
        group.create_task(first.run())
        await asyncio.sleep(10)
        api.remove(Lease.RESOURCE, KEY)
    assert "held by nobody" in str(first.outcome)


async def test_an_edit_that_leaves_the_holder_does_not_end_leading() -> None:
    api = MemoryApi()
    first = Replica(api, "first")
    async with asyncio.TaskGroup() as group:
        task = group.create_task(first.run())
        await asyncio.sleep(10)
        label = {"metadata": {"labels": {"touched": "yes"}}}
        await api.client().merge_patch(Lease.RESOURCE, KEY, label)
        await asyncio.sleep(60)
        assert first.elector.leading
        task.cancel()


async def test_of_many_candidates_never_two_lead() -> None:
    api = MemoryApi()
    replicas = [Replica(api, str(number)) for number in range(5)]
    async with asyncio.TaskGroup() as group:
        tasks = {each.name: group.create_task(each.run()) for each in replicas}
        for _ in range(5):
            await asyncio.sleep(40)
            [leader] = [each for each in replicas if each.elector.leading]
            tasks[leader.name].cancel()
    spans = sorted(span for each in replicas for span in each.spans)
    assert len(spans) == 5
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    assert spec(api)["leaseTransitions"] == 4


async def test_an_error_of_what_is_led_hands_the_lease_over_and_is_not_hidden() -> None:
    api = MemoryApi()
    elector = Replica(api, "first").elector

    async def crash() -> None:
        await asyncio.sleep(1)
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as raised:
        await elector.run(crash)
    assert raised.group_contains(ZeroDivisionError)
    assert spec(api)["holderIdentity"] == ""


async def test_work_that_ends_by_itself_hands_the_lease_over() -> None:
    api = MemoryApi()
    elector = Replica(api, "first").elector

    async def brief() -> None:
        await asyncio.sleep(1)

    await elector.run(brief)
    assert spec(api)["holderIdentity"] == ""


async def test_a_candidate_survives_an_api_server_that_is_away() -> None:
    api = MemoryApi()
    api.fault = lambda _verb, _path: Transient("Unreachable", "not up yet")
    first = Replica(api, "first")
    async with asyncio.TaskGroup() as group:
        task = group.create_task(first.run())
        await asyncio.sleep(100)
        api.fault = lambda _verb, _path: None
        await asyncio.sleep(3)
        assert first.elector.leading
        task.cancel()


async def test_a_namespace_that_is_not_there_is_said_and_asked_for_ever_less() -> None:
    api = MemoryApi()
    api.fault = failing(NotFound("NotFound", 'namespaces "kube-system" not found'), "POST")
    first = Replica(api, "first")
    async with asyncio.TaskGroup() as group:
        with capture_logs() as logs:
            task = group.create_task(first.run())
            await asyncio.sleep(120)
        tries = sum(verb == "POST" for verb, _ in api.calls)
        assert 7 <= tries <= 12
        assert [each["log_level"] for each in logs] == ["warning"] * tries
        assert "there is no namespace 'kube-system': create it" in logs[0]["detail"]
        api.fault = failing(Transient("", ""), "NONE")
        await asyncio.sleep(20)
        assert first.elector.leading
        task.cancel()


def test_spans_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="lease > renew > retry"):
        LeaderElector(
            MemoryApi().client(), name="a", namespace="b", identity="c", lease=5, renew=10
        )


def test_identities_differ_between_processes_of_one_host() -> None:
    assert unique_identity() != unique_identity()
