"""How a process starts, stops and fails; each test runs one."""

import asyncio
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from controlkit.manager import Manager

PRELUDE = """
import asyncio, sys, time
from typing import ClassVar
from controlkit import log, manager as kit
from controlkit.cache import Cache
from controlkit.kube.objects import KubeObject, Resource
from controlkit.kube.reflector import Reflector
from controlkit.leader import LeaderElector
from controlkit.manager import Manager
from controlkit_testing import Hang, MemoryApi

class Pod(KubeObject):
    RESOURCE: ClassVar[Resource] = Resource("", "v1", "pods", "Pod")

def say(text):
    print(text, flush=True)

def part(name, stops=0.0):
    async def run():
        say(f"{name} starts")
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(stops)
            say(f"{name} stops")
    return run

api = MemoryApi()
cache = Cache(Pod)
reflector = Reflector(api.client(), cache)
cache_run = reflector.run

async def follow():
    try:
        await cache_run()
    finally:
        say("reflector stops")

reflector.run = follow

def elector(**spans):
    return LeaderElector(api.client(), name="l", namespace="ns", identity="me", **spans)

log.configure("info", json=False)

async def main():
"""


@dataclass
class Program:
    """A process whose `main` is the given body."""

    process: subprocess.Popen[str]

    def until(self, line: str) -> list[str]:
        """What it prints up to that line."""
        assert self.process.stdout is not None
        lines = []
        for each in self.process.stdout:
            lines.append(each.rstrip())
            if each.rstrip() == line:
                return lines
        raise AssertionError(f"ended without saying {line!r}: {lines}")

    def end(self) -> tuple[int, str, float]:
        """Its status, the rest of what it prints, and the seconds it took."""
        began = time.monotonic()
        text, _ = self.process.communicate(timeout=15)
        return self.process.returncode, text, time.monotonic() - began


class Start:
    def __init__(self) -> None:
        self.running: list[Program] = []

    def __call__(self, body: str) -> Program:
        code = PRELUDE + textwrap.indent(textwrap.dedent(body), "    ")
        code += "\n    return await manager.run()\n\nsys.exit(asyncio.run(main()))\n"
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.running.append(Program(process))
        return self.running[-1]


@pytest.fixture
def start() -> Iterator[Start]:
    starter = Start()
    yield starter
    for program in starter.running:
        program.process.kill()
        program.process.wait()
        if program.process.stdout is not None:
            program.process.stdout.close()


ALL_PARTS = """
    manager = Manager(leader=elector())
    manager.always("server", part("server"))
    manager.cached(reflector)
    manager.leading("controller", part("controller"))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_parts_in_reverse_order(start: Start, number: signal.Signals) -> None:
    program = start(ALL_PARTS)
    before = program.until("controller starts")
    assert "server starts" in before
    program.process.send_signal(number)
    status, text, took = program.end()
    assert status == 0
    told = [line for line in text.splitlines() if line.endswith(" stops")]
    assert told == ["controller stops", "reflector stops", "server stops"]
    assert text.index("lease handed over") < text.index("reflector stops")
    assert took < 5


def test_a_second_signal_ends_the_process_at_once(start: Start) -> None:
    program = start("""
        manager = Manager(leader=None)
        manager.leading("slow", part("slow", stops=100))
    """)
    program.until("slow starts")
    program.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    program.process.send_signal(signal.SIGTERM)
    status, text, took = program.end()
    assert status == 1
    assert "second signal" in text
    assert took < 5


@pytest.mark.parametrize(
    "stuck",
    [
        pytest.param("part('slow', stops=100)", id="a-part-that-will-not-stop"),
        pytest.param("block", id="a-blocked-event-loop"),
    ],
)
def test_what_does_not_stop_in_time_dies_with_the_process(start: Start, stuck: str) -> None:
    program = start(f"""
        async def block():
            say("slow starts")
            try:
                await asyncio.Event().wait()
            finally:
                time.sleep(100)
        kit.STOP_SECONDS = 1.0
        manager = Manager(leader=None)
        manager.leading("slow", {stuck})
    """)
    program.until("slow starts")
    program.process.send_signal(signal.SIGTERM)
    status, text, took = program.end()
    assert status == 1
    assert "did not stop in time" in text
    assert took < 8


@pytest.mark.parametrize("role", ["always", "leading"])
def test_a_crash_of_one_part_ends_all_and_shows_the_trace(start: Start, role: str) -> None:
    program = start(f"""
        async def crash():
            await asyncio.sleep(0.2)
            raise ZeroDivisionError("the culprit")
        manager = Manager(leader=elector())
        manager.always("server", part("server"))
        manager.cached(reflector)
        manager.{role}("bad", crash)
        manager.leading("controller", part("controller"))
    """)
    status, text, took = program.end()
    assert status == 1
    assert "ZeroDivisionError: the culprit" in text
    assert "in crash" in text
    assert "server stops" in text
    assert "controller stops" in text
    assert took < 8


def test_a_part_that_ends_by_itself_ends_the_process_and_is_named(start: Start) -> None:
    program = start("""
        async def brief():
            await asyncio.sleep(0.1)
        manager = Manager(leader=None)
        manager.always("brief", brief)
    """)
    status, text, _ = program.end()
    assert status == 1
    assert "brief ended by itself" in text
    assert "Traceback" not in text


def test_losing_the_lease_ends_the_process(start: Start) -> None:
    program = start("""
        manager = Manager(leader=elector(lease=3, renew=1, retry=0.2))
        manager.always("server", part("server"))
        manager.leading("controller", part("controller"))
        async def cut():
            await asyncio.sleep(0.3)
            api.fault = lambda verb, path: Hang("", "")
            await asyncio.Event().wait()
        manager.leading("cut", cut)
    """)
    status, text, took = program.end()
    assert status == 1
    assert "was not renewed for 1 s" in text
    assert "controller stops" in text
    assert took < 8


def test_a_blocked_leader_dies_before_another_may_lead(start: Start) -> None:
    program = start("""
        manager = Manager(leader=elector(lease=6, renew=2, retry=0.2))
        async def block():
            say("leads")
            time.sleep(100)
        manager.leading("controller", block)
    """)
    program.until("leads")
    status, text, took = program.end()
    assert status == 1
    assert "did not stop in time" in text
    assert took < 6


def test_a_port_that_is_taken_is_told_without_a_trace(start: Start) -> None:
    program = start("""
        import socket
        from controlkit.server import health_app, serve
        taken = socket.create_server(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        app = health_app(list, list)
        manager = Manager(leader=None)
        manager.always("health", lambda: serve(app, host="127.0.0.1", port=port))
    """)
    status, text, _ = program.end()
    assert status == 1
    assert "cannot listen on 127.0.0.1:" in text
    assert "Traceback" not in text


def test_standing_by_it_is_ready_but_does_not_lead(start: Start) -> None:
    program = start("""
        api.put(Resource("coordination.k8s.io", "v1", "leases", "Lease"), {
            "metadata": {"name": "l", "namespace": "ns"},
            "spec": {"holderIdentity": "another", "leaseDurationSeconds": 60},
        })
        manager = Manager(leader=elector())
        manager.cached(reflector)
        manager.leading("controller", part("controller"))
        async def look():
            await asyncio.sleep(0.5)
            say(f"dead {manager.dead()} unsynced {manager.unsynced()}")
            await asyncio.Event().wait()
        manager.always("look", look)
    """)
    program.until("dead [] unsynced []")
    program.process.send_signal(signal.SIGTERM)
    status, text, _ = program.end()
    assert status == 0
    assert "controller" not in text


def test_once_synced_the_resident_heap_is_out_of_the_collectors_sight(start: Start) -> None:
    program = start("""
        import gc
        manager = Manager(leader=None)
        manager.cached(reflector)
        async def look():
            say(f"frozen {gc.get_freeze_count() > 10_000} after {gc.get_threshold()[0]}")
            await asyncio.Event().wait()
        manager.leading("look", look)
    """)
    program.until("frozen True after 50000")


async def test_health_names_what_is_missing_and_what_is_dead() -> None:
    manager = Manager(leader=None)
    assert manager.unsynced() == []
    gate = asyncio.Event()

    async def crash() -> None:
        await gate.wait()
        raise ZeroDivisionError

    manager.always("bad", crash)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(manager.run())
        await asyncio.sleep(0)
        assert manager.dead() == []
        gate.set()
        assert await running == 1
    assert manager.dead() == ["bad has ended"]


async def test_cancelling_it_stops_all_and_stays_a_cancellation() -> None:
    manager = Manager(leader=None)
    stopped = asyncio.Event()

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    manager.always("server", wait)
    running = asyncio.ensure_future(manager.run())
    await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert stopped.is_set()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
