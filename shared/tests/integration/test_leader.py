"""Two processes and one Lease on a real API server, one of them killed, cut off or frozen."""

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from controlkit.kube.client import KubeClient
from controlkit.kube.objects import Key
from controlkit.leader import Lease
from controlkit_testing import CutProxy, eventually
from sandbox.controlplane import ControlPlane

pytestmark = pytest.mark.control_plane

CANDIDATE = """
import asyncio, os, sys, time
from pathlib import Path
from controlkit.kube.client import KubeClient
from controlkit.leader import LeaderElector
from controlkit.manager import Manager

kubeconfig, namespace, name, book, lease, renew, retry = sys.argv[1:]
log = os.open(book, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

async def lead():
    while True:
        os.write(log, f"{name} {time.monotonic()}\\n".encode())
        await asyncio.sleep(0.02)

async def main():
    client = await KubeClient.connect(
        user_agent=name, field_manager=name, kubeconfig=Path(kubeconfig))
    async with client:
        elector = LeaderElector(client, name="leader", namespace=namespace, identity=name,
                                lease=float(lease), renew=float(renew), retry=float(retry))
        manager = Manager(leader=elector)
        manager.leading("work", lead)
        return await manager.run()

sys.exit(asyncio.run(main()))
"""
USUAL = (15.0, 10.0, 2.0)
SHORT = (4.0, 2.0, 0.5)
PATIENT = (40.0, 30.0, 2.0)


@dataclass
class Book:
    """Where leaders note every 20 ms that they lead, by one clock for all processes."""

    path: Path

    def notes(self) -> list[tuple[str, float]]:
        if not self.path.exists():
            return []
        lines = [line.split() for line in self.path.read_text().splitlines()]
        return [(name, float(moment)) for name, moment in lines]

    def span(self, name: str) -> tuple[float, float]:
        moments = [moment for each, moment in self.notes() if each == name]
        return moments[0], moments[-1]

    async def until(self, holds: Callable[[list[str]], bool], seconds: float) -> None:
        """Waits until the names of the notes hold."""
        await eventually(lambda: holds([name for name, _ in self.notes()]), seconds=seconds)


class Candidates:
    def __init__(self, book: Book, namespace: str) -> None:
        self.book = book
        self.running: list[asyncio.subprocess.Process] = []
        self._namespace = namespace

    async def start(
        self, kubeconfig: Path, name: str, spans: tuple[float, float, float]
    ) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            CANDIDATE,
            str(kubeconfig),
            self._namespace,
            name,
            str(self.book.path),
            *map(str, spans),
        )
        self.running.append(process)
        return process


@pytest.fixture
async def candidates(tmp_path: Path, namespace: str) -> AsyncIterator[Candidates]:
    found = Candidates(Book(tmp_path / "book"), namespace)
    yield found
    for process in found.running:
        if process.returncode is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
            await process.wait()


@pytest.fixture
def book(candidates: Candidates) -> Book:
    return candidates.book


async def test_when_the_leader_is_killed_the_other_leads_within_twenty_seconds(
    candidates: Candidates, book: Book, control_plane: ControlPlane
) -> None:
    first = await candidates.start(control_plane.kubeconfig, "first", USUAL)
    await book.until(lambda names: "first" in names, 20)
    second = await candidates.start(control_plane.kubeconfig, "second", USUAL)
    await asyncio.sleep(4)
    assert "second" not in {name for name, _ in book.notes()}

    killed = time.monotonic()
    first.send_signal(signal.SIGKILL)
    await book.until(lambda names: "second" in names, 20)

    began, _ = book.span("second")
    _, ended = book.span("first")
    assert ended < began, "never two at once"
    assert began - killed < 20
    second.send_signal(signal.SIGTERM)
    assert await second.wait() == 0


async def test_a_leader_that_stops_hands_over_at_once(
    candidates: Candidates,
    book: Book,
    control_plane: ControlPlane,
    client: KubeClient,
    namespace: str,
) -> None:
    first = await candidates.start(control_plane.kubeconfig, "first", USUAL)
    await book.until(lambda names: "first" in names, 20)
    await candidates.start(control_plane.kubeconfig, "second", USUAL)
    await asyncio.sleep(1)
    stopped = time.monotonic()
    first.send_signal(signal.SIGTERM)
    assert await first.wait() == 0
    await book.until(lambda names: "second" in names, 10)
    (_, ended), (began, _) = book.span("first"), book.span("second")
    assert ended < began < stopped + 5
    lease = await client.get(Lease, Key(namespace, "leader"))
    assert lease is not None
    assert (lease.spec.holder_identity, lease.spec.lease_transitions) == ("second", 1)


async def test_a_leader_that_is_cut_off_ends_its_process_before_another_leads(
    candidates: Candidates,
    book: Book,
    control_plane: ControlPlane,
    proxy: CutProxy,
    proxied_kubeconfig: Path,
) -> None:
    first = await candidates.start(proxied_kubeconfig, "first", SHORT)
    await book.until(lambda names: "first" in names, 20)
    await candidates.start(control_plane.kubeconfig, "second", SHORT)
    await asyncio.sleep(2)
    proxy.silence()
    assert await asyncio.wait_for(first.wait(), 10) == 1
    await book.until(lambda names: "second" in names, 20)
    (_, ended), (began, _) = book.span("first"), book.span("second")
    assert began - ended > 1


async def test_a_leader_that_was_frozen_past_its_term_dies_on_waking(
    candidates: Candidates, book: Book, control_plane: ControlPlane
) -> None:
    first = await candidates.start(control_plane.kubeconfig, "first", SHORT)
    await book.until(lambda names: "first" in names, 20)
    await candidates.start(control_plane.kubeconfig, "second", SHORT)
    await asyncio.sleep(2)
    first.send_signal(signal.SIGSTOP)
    await book.until(lambda names: "second" in names, 20)
    first.send_signal(signal.SIGCONT)
    assert await asyncio.wait_for(first.wait(), 10) == 1


async def test_candidates_survive_a_restart_of_the_api_server(
    candidates: Candidates, book: Book, control_plane: ControlPlane
) -> None:
    for name in ("first", "second"):
        await candidates.start(control_plane.kubeconfig, name, PATIENT)
    await book.until(bool, 20)
    [leader] = {name for name, _ in book.notes()}
    await control_plane.stop_apiserver(grace=0)
    await control_plane.start_apiserver()
    await asyncio.sleep(4)
    assert {name for name, _ in book.notes()} == {leader}
    assert all(process.returncode is None for process in candidates.running)
    assert time.monotonic() - book.span(leader)[1] < 3
