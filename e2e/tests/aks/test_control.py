"""The control API: what a test, or a curious person, can see and do."""

import asyncio
import json
import ssl
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from controlkit.clock import SystemClock
from sandbox.aks.client import ControlApiError
from sandbox.aks.emulator import application
from sandbox.aks.operations import Operations
from sandbox.aks.settings import Cluster, Settings
from sandbox.aks.store import Store
from sandbox.aks.tasks import Tasks
from sandbox.aks.testing import Bench, Starter
from sandbox.aks.world import World
from sandbox.nodes.driver import NoNodes


async def test_the_index_lists_every_route_and_health_answers(bench: Bench) -> None:
    trust = ssl.create_default_context(cafile=str(bench.emulator.ca))
    async with httpx.AsyncClient(verify=trust, base_url=bench.emulator.url) as http:
        index = (await http.get("/_emulator/")).json()
        assert "POST /_emulator/faults" in index
        for path in ("/healthz", "/readyz"):
            assert (await http.get(path)).status_code == 200
        for line in index:
            method, path = line.split()
            if method == "GET" and not path.endswith("tail"):
                assert (await http.get(path)).status_code == 200, path


async def test_settings_change_and_null_restores_what_the_start_said(start: Starter) -> None:
    async with start(speed=7, timings={"join": 30}) as bench:
        changed = await bench.control.set(speed=9, timings={"gpu": 1})
        assert (changed["speed"], changed["timings"]["gpu"]) == (9, 1)
        assert changed["timings"]["join"] == 30
        restored = await bench.control.set(speed=None, timings={"gpu": None})
        assert (restored["speed"], restored["timings"]["gpu"]) == (7, 126)


@pytest.mark.parametrize(
    ("patch", "named"),
    [
        ({"speed": 0}, "speed"),
        ({"timings": {"jion": 3}}, "jion"),
        ({"throttle": "maybe"}, "throttle"),
    ],
    ids=["speed", "misspelt", "throttle"],
)
async def test_a_setting_that_does_not_fit_is_refused_and_changes_nothing(
    bench: Bench, patch: dict[str, object], named: str
) -> None:
    before = await bench.control.set()
    with pytest.raises(ControlApiError, match=named):
        await bench.control.set(**patch)
    assert await bench.control.set() == before


async def test_the_log_holds_what_a_client_sent_and_got(bench: Bench) -> None:
    await bench.create("ws1", if_missing=True, nodeLabels={"kaito.sh/workspace": "w"})
    (call,) = await bench.control.calls("PUT", pool="ws*", status=201)
    assert call["method"] == "PUT"
    assert call["path"].endswith("/agentPools/ws1")
    assert call["apiVersion"] == "2026-08-01"
    assert call["ifNoneMatch"] == "*"
    assert call["body"]["properties"]["nodeLabels"] == {"kaito.sh/workspace": "w"}
    assert "azsdk-python" in call["userAgent"]
    assert call["time"].startswith("20")
    assert call["milliseconds"] > 0
    assert await bench.control.calls("PUT", pool="other*") == []


async def test_secrets_of_a_token_request_stay_out_of_the_log(bench: Bench) -> None:
    await bench.names()
    (call,) = await bench.control.calls("TOKEN")
    assert call["body"] is None


async def test_waiting_for_a_call_ends_when_it_comes(bench: Bench) -> None:
    await bench.names()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(bench.control.calls("PUT", wait=10))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await bench.create("ws1")
    assert [call["pool"] for call in waiting.result()] == ["ws1"]
    assert await bench.control.calls("DELETE", wait=0.05) == []


async def test_the_tail_shows_each_call_once_in_order(bench: Bench) -> None:
    trust = ssl.create_default_context(cafile=str(bench.emulator.ca))
    await bench.names()
    seen = []
    async with (
        httpx.AsyncClient(verify=trust, base_url=bench.emulator.url) as http,
        http.stream("GET", "/_emulator/calls/tail") as tail,
    ):
        lines = tail.aiter_lines()
        seen = [json.loads(await anext(lines)) for _ in range(2)]
        await bench.create("ws1")
        async with asyncio.timeout(5):
            seen.append(json.loads(await anext(lines)))
    assert [call["verb"] for call in seen] == ["TOKEN", "LIST", "PUT"]
    assert [call["status"] for call in seen] == [200, 200, 201]


async def test_nodes_are_shown_as_they_are_to_be(bench: Bench) -> None:
    await bench.created("ws1", nodeLabels={"a": "b"}, nodeTaints=["sku=gpu:NoSchedule"])
    (vm,) = await bench.settled(nodes=1, gpus=1)
    spec, cluster = vm["spec"], bench.emulator.cluster
    scale_set = spec["name"][:-6]
    assert scale_set.startswith("aks-ws1-")
    assert spec["provider_id"] == (
        f"azure:///subscriptions/{cluster.subscription}/resourceGroups/"
        "MC_gpu-workspaces_sandbox_eastus/providers/Microsoft.Compute/virtualMachineScaleSets/"
        f"{scale_set}/virtualMachines/0"
    )
    assert spec["taints"] == ["sku=gpu:NoSchedule"]
    expected = {
        "a": "b",
        "agentpool": "ws1",
        "kubernetes.azure.com/agentpool": "ws1",
        "kubernetes.azure.com/mode": "user",
        "kubernetes.azure.com/accelerator": "nvidia",
        "node.kubernetes.io/instance-type": "Standard_NC6s_v3",
        "topology.kubernetes.io/region": "eastus",
        "topology.kubernetes.io/zone": "0",
    }
    assert expected.items() <= spec["labels"].items()
    assert (spec["gpus"], spec["spot"]) == (1, False)


async def test_a_spot_node_carries_the_mark_of_aks(bench: Bench) -> None:
    await bench.created("ws1", scaleSetPriority="Spot")
    (vm,) = await bench.control.nodes()
    assert vm["spec"]["labels"]["kubernetes.azure.com/scalesetpriority"] == "spot"
    assert vm["spec"]["taints"] == ["kubernetes.azure.com/scalesetpriority=spot:NoSchedule"]


async def test_an_eviction_takes_the_vm_and_lowers_the_count(bench: Bench) -> None:
    await bench.created("ws1", count=2, scaleSetPriority="Spot")
    first, second = await bench.control.nodes()
    await bench.control.evict("ws1", node=second["node"])
    (left,) = await bench.settled(nodes=1)
    assert left["node"] == first["node"]
    assert (await bench.get("ws1")).count == 1

    await bench.control.set(timings={"evictionNotice": 2500})  # half a second
    await bench.control.evict("ws1", notice=True)
    assert len(await bench.control.nodes()) == 1
    await bench.settled(nodes=0)


async def test_a_pool_can_vanish_behind_the_back_of_its_owner(bench: Bench) -> None:
    await bench.created("ws1")
    await bench.control.inject("stuck")
    await bench.create("ws2")
    await bench.control.remove_pool("ws1")
    await bench.control.remove_pool("ws2")
    await bench.settled(nodes=0)
    assert await bench.names() == ["system"]
    assert await bench.control.calls("DELETE") == []


async def test_a_reset_leaves_an_emulator_like_new(bench: Bench) -> None:
    await bench.created("ws1")
    await bench.control.inject("stuck")
    await bench.create("ws2")
    await bench.control.set(speed=3)
    await bench.control.reset()
    assert await bench.control.nodes() == []
    assert await bench.control.faults() == []
    assert await bench.control.calls() == []
    assert (await bench.control.set())["speed"] == 5000


@pytest.mark.parametrize(
    ("act", "named"),
    [
        (lambda control: control.evict("none"), "there is no pool 'none'"),
        (lambda control: control.evict("system"), "has no VM"),
        (lambda control: control.remove_pool("system"), "system pool"),
        (lambda control: control.set_quota(regional="many"), "regional"),
    ],
    ids=["pool", "vm", "system", "quota"],
)
async def test_what_cannot_be_done_is_explained(bench: Bench, act: object, named: str) -> None:
    assert callable(act)
    with pytest.raises(ControlApiError, match=named):
        await act(bench.control)


async def test_a_node_without_a_driver_for_it_cannot_be_made_unready(bench: Bench) -> None:
    await bench.created("ws1")
    with pytest.raises(ControlApiError, match="node driver can't"):
        await bench.control.set_ready("ws1", ready=False)


@pytest.mark.parametrize(
    ("caller", "open_to_all", "status"),
    [
        ("127.0.0.1", False, 200),
        ("192.0.2.1", False, 200),  # the server's own address: the caller is this host
        ("10.244.0.7", False, 403),
        ("10.244.0.7", True, 200),
    ],
)
async def test_the_control_api_answers_its_own_host_alone(
    tmp_path: Path, caller: str, open_to_all: bool, status: int
) -> None:
    async with Tasks() as tasks:
        with closing(Store(tmp_path)) as store:
            world = World(Cluster(), Settings(), store, SystemClock())
            operations = Operations(world, NoNodes(), tasks)
            app = application(world, operations, open_control=open_to_all)
            transport = httpx.ASGITransport(app, client=(caller, 1234))
            async with httpx.AsyncClient(transport=transport, base_url="https://192.0.2.1") as http:
                answer = await http.get("/_emulator/settings")
    assert answer.status_code == status
