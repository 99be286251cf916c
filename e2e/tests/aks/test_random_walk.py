"""Long random lives, restarts included: whatever happens, everything ends and nothing is left."""

import contextlib
import random
from typing import Any

import pytest
from azure.core.exceptions import AzureError
from azure.core.rest import HttpRequest

from sandbox.aks.client import ControlApiError
from sandbox.aks.testing import GPU_SIZE, Bench, Starter
from sandbox.nodes.driver import NodeBootError, NodeSpec

POOLS = ("ws1", "ws2", "ws3")


class Cloud:
    """A node driver that fails now and then, and remembers which nodes there are."""

    def __init__(self, chance: random.Random) -> None:
        self.nodes: set[str] = set()
        self._chance = chance

    async def create(self, spec: NodeSpec) -> None:
        self._stumble()
        if self._chance.random() < 0.03 and spec.name not in self.nodes:
            raise NodeBootError("no disk")
        self.nodes.add(spec.name)

    async def advertise_gpu(self, spec: NodeSpec) -> None:
        self._stumble()
        assert spec.name in self.nodes

    async def delete(self, spec: NodeSpec) -> None:
        self._stumble()
        self.nodes.discard(spec.name)

    async def close(self) -> None:
        pass

    def _stumble(self) -> None:
        if self._chance.random() < 0.05:
            raise TimeoutError("the cluster is slow today")


async def act(bench: Bench, chance: random.Random) -> None:
    """Does one thing that a client, an operator or Azure itself might do; refusals are fine."""
    pool = chance.choice(POOLS)
    vms = [vm["node"] for vm in await bench.control.nodes() if vm["pool"] == pool]
    match chance.choice(
        (
            *("put", "put", "put", "delete", "abort", "machine", "upgrade", "fault", "evict"),
            "shortage",
        )
    ):
        case "put":
            body = {"vmSize": GPU_SIZE, "count": chance.randint(0, 3)}
            await send(bench, "PUT", pool, {"properties": body})
        case "delete":
            await send(bench, "DELETE", pool)
        case "abort":
            await send(bench, "POST", f"{pool}/abort")
        case "upgrade":
            await send(bench, "POST", f"{pool}/upgradeNodeImageVersion")
        case "machine" if vms:
            await send(bench, "POST", f"{pool}/deleteMachines", {"machineNames": vms[:1]})
        case "evict" if vms:
            with contextlib.suppress(ControlApiError):  # it may be gone by now
                await bench.control.evict(pool, node=vms[0])
        case "shortage":
            beyond = chance.choice((0, 2, 4, 1000))
            await bench.control.set(sold_out=[{"sku": GPU_SIZE, "beyond": beyond}])
        case "fault":
            effects = ("fail", "slow", "stuck", "never-join", "no-gpu", "extra-node", "cut")
            error = {"error": "internal-late", "factor": 2}
            await bench.control.inject(chance.choice(effects), verb="*", **error)


async def send(bench: Bench, method: str, path: str, body: dict[str, Any] | None = None) -> None:
    url = f"{bench.emulator.url}{bench.emulator.cluster.id}/agentPools/{path}"
    request = HttpRequest(method, f"{url}?api-version=2026-08-01", json=body)
    try:
        answer = await bench.azure.send_request(request)
    except AzureError as error:  # a cut connection: the walk goes on
        assert "disconnected" in str(error)  # noqa: PT017
        return
    assert answer.status_code < 500, answer.text()


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_happens_everything_ends_and_nothing_is_left(
    start: Starter, seed: int
) -> None:
    chance = random.Random(seed)
    cloud = Cloud(chance)
    for _ in range(3):  # three lives of one emulator
        async with start(cloud, speed=20_000) as bench:
            for _ in range(15):
                await act(bench, chance)

    async with start(cloud, speed=20_000) as bench:
        await bench.control.clear_faults()
        for name, pool in (await bench.control.pools()).items():
            await send(bench, "POST", f"{name}/abort")
            if pool["operation"] and pool["operation"]["kind"] in ("Delete", "Abort"):
                await bench.control.remove_pool(name)  # a stuck one can't be aborted
        await bench.idle()
        assert {item["status"] for item in await bench.control.operations()}.isdisjoint(
            {"InProgress"}
        )
        for left in (await bench.control.pools()).values():
            if left["properties"]["provisioningState"] == "Succeeded":
                counted = [vm for vm in left["instances"] if not vm["extra"]]
                assert len(counted) == left["properties"]["count"], left["name"]
        joined = {vm["node"] for vm in await bench.control.nodes() if vm["joinedAt"] is not None}
        assert cloud.nodes == joined

        for name in POOLS:
            await send(bench, "DELETE", name)
        await bench.settled(nodes=0)
        await bench.idle()
        assert await bench.names() == ["system"]
        assert cloud.nodes == set()
        usage = (await bench.control.usage())["vcpus"]
        assert usage["regional"] == 0
