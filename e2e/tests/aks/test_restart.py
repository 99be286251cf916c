"""What a stopped, or killed, emulator remembers."""

import asyncio
import re
import signal
import ssl
import sys
from pathlib import Path

import httpx
import pytest
from azure.core.exceptions import HttpResponseError
from azure.mgmt.containerservice.models import AgentPoolDeleteMachinesParameter

from sandbox.aks.emulator import Emulator
from sandbox.aks.settings import Cluster
from sandbox.aks.store import StateInUseError
from sandbox.aks.testing import GPU_SIZE, Starter, status_and_code
from sandbox.nodes.driver import NodeBootError, NodeSpec
from sandbox.processes import Process, spawn


class Recorder:
    """A node driver that remembers which nodes it was asked for."""

    def __init__(self) -> None:
        self.nodes: set[str] = set()
        self.gpus: set[str] = set()

    async def create(self, spec: NodeSpec) -> None:
        self.nodes.add(spec.name)

    async def advertise_gpu(self, spec: NodeSpec) -> None:
        self.gpus.add(spec.name)

    async def delete(self, spec: NodeSpec) -> None:
        self.nodes.discard(spec.name)

    async def close(self) -> None:
        pass


async def test_a_restart_finishes_what_was_under_way(start: Starter) -> None:
    async with start() as bench:
        await bench.created("old")
    async with start(speed=200) as bench:
        token = (await bench.create("new", count=2)).continuation_token()
        await bench.azure.agent_pools.begin_delete(*bench.scope, "old")
        assert (await bench.get("new")).provisioning_state == "Creating"
        assert (await bench.get("old")).provisioning_state == "Deleting"

    async with start(speed=200) as bench:
        poller = await bench.resumed("new", token)
        assert (await poller.result()).provisioning_state == "Succeeded"
        assert await bench.names() == ["new", "system"]
        assert await bench.control.created_pools() == ["old", "new"]


async def test_a_deadline_that_passed_meanwhile_is_simply_due(start: Starter) -> None:
    async with start(speed=500) as bench:
        await bench.create("ws1", count=2)
        await bench.control.inject("fail", error="internal-late")
        await bench.create("ws2")
    await asyncio.sleep(0.6)  # 284 emulated seconds are 0.57 s
    driver = Recorder()
    async with start(driver, speed=500) as bench:
        await bench.settled(nodes=2, joined=2, gpus=2)
        assert (await bench.get("ws1")).provisioning_state == "Succeeded"
        assert (await bench.get("ws2")).provisioning_state == "Failed"
        assert len(driver.nodes) == len(driver.gpus) == 2


async def test_a_restart_in_the_middle_of_a_scale_finishes_it_once(start: Starter) -> None:
    async with start() as bench:
        await bench.created("ws1", count=2)
        first = [vm["node"] for vm in await bench.control.nodes()]
    slow = {"join": 300, "joinSpread": 100}
    async with start(speed=500, timings=slow) as bench:
        await bench.create("ws1", count=5)
        asked = [vm["node"] for vm in await bench.control.nodes()]
    driver = Recorder()
    async with start(driver, speed=500, timings=slow) as bench:
        assert (await bench.get("ws1")).provisioning_state == "Scaling"
        await bench.idle()
        assert (await bench.get("ws1")).provisioning_state == "Succeeded"
        assert [vm["node"] for vm in await bench.control.nodes()] == asked
        assert asked[:2] == first
        assert driver.nodes == set(asked)


async def test_a_restart_while_machines_go_lets_them_go(start: Starter) -> None:
    driver = Recorder()
    async with start(driver) as bench:
        await bench.created("ws1", count=3)
    async with start(driver, speed=500, timings={"update": 300}) as bench:
        gone, *kept = [vm["node"] for vm in await bench.control.nodes()]
        body = AgentPoolDeleteMachinesParameter(machine_names=[gone])
        await bench.azure.agent_pools.begin_delete_machines(*bench.scope, "ws1", body)
    async with start(driver, speed=500) as bench:
        await bench.idle()
        pool = await bench.get("ws1")
        assert (pool.provisioning_state, pool.count) == ("Succeeded", 2)
        assert [vm["node"] for vm in await bench.control.nodes()] == kept
        assert gone not in driver.nodes


async def test_a_restart_does_not_deliver_what_azure_does_not_have(start: Starter) -> None:
    shortage = [{"sku": GPU_SIZE, "beyond": 2}]
    async with start(speed=500, soldOut=shortage) as bench:
        await bench.create("ws1", count=4)
    async with start(speed=500) as bench:
        await bench.idle()
        assert (await bench.get("ws1")).provisioning_state == "Failed"
        await bench.settled(nodes=2, joined=2)


async def test_vms_that_exist_are_created_again_in_a_new_driver(start: Starter) -> None:
    first, second = Recorder(), Recorder()
    async with start(first) as bench:
        await bench.created("ws1", count=3)
        await bench.settled(nodes=3, gpus=3)
    async with start(second) as bench:
        await bench.settled(nodes=3, gpus=3)
        await bench.created("ws2")  # by then the driver has been told of all
        await bench.settled(nodes=4, gpus=4)
        assert second.nodes >= first.nodes
        assert second.gpus >= first.gpus
        await bench.delete("ws1")
        assert not second.nodes & first.nodes


async def test_a_vm_that_cannot_boot_fails_its_pool_with_what_the_driver_said(
    start: Starter,
) -> None:
    class Broken(Recorder):
        async def create(self, spec: NodeSpec) -> None:
            raise NodeBootError(f"{spec.name}: no disk is left")

    async with start(Broken()) as bench:
        with pytest.raises(HttpResponseError) as caught:
            await bench.created("ws1")
        assert status_and_code(caught.value) == (200, "VMExtensionProvisioningError")
        assert "no disk is left" in str(caught.value)
        assert (await bench.get("ws1")).provisioning_state == "Failed"
        await bench.delete("ws1")


async def test_a_driver_that_fails_for_now_is_asked_again(start: Starter) -> None:
    class Hesitant(Recorder):
        tries = 0

        async def create(self, spec: NodeSpec) -> None:
            self.tries += 1
            if self.tries < 3:
                raise OSError("not now")
            await super().create(spec)

    driver = Hesitant()
    async with start(driver) as bench:
        assert (await bench.created("ws1")).provisioning_state == "Succeeded"
    assert driver.tries == 3


async def test_faults_settings_tokens_and_the_throttle_survive(start: Starter) -> None:
    async with start(speed=1, throttle=True) as bench:
        for number in range(20):
            await bench.create(f"ws{number}", count=0)
        await bench.control.inject("error", error="internal", verb="GET", count=5)
        await bench.control.set(max_pools=30)
        token = await bench.azure._config.credential.get_token("x")
    async with start(speed=1, throttle=True) as bench:
        assert status_and_code(await bench.refused("ws20")) == (429, "Throttled")
        with pytest.raises(HttpResponseError):
            await bench.get("ws1")
        assert (await bench.control.set())["maxPools"] == 30
        url = f"{bench.emulator.url}{bench.emulator.cluster.id}?api-version=2026-08-01"
        trust = ssl.create_default_context(cafile=str(bench.emulator.ca))
        async with httpx.AsyncClient(verify=trust) as http:
            answer = await http.get(url, headers={"Authorization": f"Bearer {token.token}"})
        assert answer.status_code == 200


async def test_call_numbers_go_on_after_a_restart(start: Starter) -> None:
    async with start() as bench:
        await bench.names()
        last = (await bench.control.calls())[-1]["number"]
    async with start() as bench:
        await bench.names()
        (call,) = await bench.control.calls("LIST", after=last)
        assert call["number"] == last + 2  # the client asked for a token first


async def test_a_folder_serves_one_emulator_at_a_time(start: Starter) -> None:
    async with start():
        with pytest.raises(StateInUseError, match="another emulator uses this folder"):
            async with Emulator.start(start.state, pki=start.pki):
                pass


async def test_a_killed_process_loses_nothing(tmp_path: Path, start: Starter) -> None:
    process, emulator = await run_program(start, tmp_path / "first.log")
    async with start.clients(emulator) as bench:
        await bench.create("ws1", count=2)
        await bench.control.inject("never-join", pool="never*")
        process.send(signal.SIGKILL)
        await process.stop()

    process, emulator = await run_program(start, tmp_path / "second.log")
    async with start.clients(emulator) as bench:
        await bench.settled(nodes=2, joined=2)
        assert [call["status"] for call in await bench.control.calls("PUT")] == [201]
        assert len(await bench.control.faults()) == 1
        assert await bench.names() == ["system", "ws1"]
    await process.stop()
    assert process.child is not None
    assert process.child.returncode == 0


async def test_a_port_in_use_is_named(start: Starter, tmp_path: Path) -> None:
    async with start():
        other = Emulator.start(tmp_path / "other", port=start.port, pki=start.pki)
        with pytest.raises(OSError, match=f"--port {start.port}: Address already in use"):
            async with other:
                pass


async def run_program(start: Starter, log: Path) -> tuple[Process, Emulator]:
    """Starts the emulator as a user does; returns it when it says where it is."""
    flags = ["--speed", "500", "--throttle", "off", "--pki", str(start.pki.ca.parent)]
    argv = [sys.executable, "-m", "sandbox.aks", "--state", str(start.state), *flags]
    process = spawn("emulator", argv, log=log)
    async with asyncio.timeout(20):
        while not (found := re.search(r"AKS emulator at (\S+),", process.log_tail())):
            process.ensure_alive()
            await asyncio.sleep(0.05)
    return process, Emulator(found[1], start.pki.ca, Cluster())
