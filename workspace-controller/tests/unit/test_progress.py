"""The task that asks trainings how far they are, by a clock that the test owns."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from workspace_world.tuning import job_pod, pod_status, tuning

from controlkit.errors import ControlError, Transient
from controlkit.kube.client import KubeClient
from controlkit.kube.objects import Key
from controlkit.kube.wire import Lines
from controlkit_testing import FakeClock
from gpuapis.core import Pod
from gpuapis.workspace import Workspace
from workspace_controller.caches import Caches
from workspace_controller.tuning.facts import Progress
from workspace_controller.tuning.progress import AT_ONCE, Heard, ProgressPoller


def path(name: str) -> str:
    return f"/api/v1/namespaces/team/pods/{name}-1/proxy/progress"


@dataclass
class Proxy:
    """Stands for the API server's way to pods."""

    answers: dict[str, dict[str, Any] | bytes | ControlError] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    under_way: int = 0
    most: int = 0

    async def request(self, verb: str, path: str, **how: Any) -> bytes:
        raise AssertionError("a stranger's answer is read with a limit")

    @asynccontextmanager
    async def stream(
        self, path: str, *, query: Mapping[str, str], timeout: float
    ) -> AsyncIterator[Lines]:
        assert timeout <= 3.0
        self.asked[path] += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0)
        self.under_way -= 1
        answer = self.answers.get(path, Transient("Down", "no answer"))
        if isinstance(answer, ControlError):
            raise answer
        reader = asyncio.StreamReader()
        reader.feed_data(answer if isinstance(answer, bytes) else json.dumps(answer).encode())
        reader.feed_eof()
        yield Lines(path, reader)

    async def close(self) -> None:
        pass


@dataclass
class Room:
    proxy: Proxy = field(default_factory=Proxy)
    caches: Caches = field(default_factory=Caches)
    heard: Heard = field(default_factory=Heard)
    clock: FakeClock = field(default_factory=FakeClock)
    woken: list[Key] = field(default_factory=list)

    @property
    def poller(self) -> ProgressPoller:
        client = KubeClient(self.proxy, "test")
        return ProgressPoller(client, self.caches, self.heard, self.woken.append, self.clock)

    def train(self, name: str, phase: str = "Running") -> Key:
        metadata = {"name": name, "namespace": "team", "resourceVersion": "1"}
        resource = {"labelSelector": {"matchLabels": {"apps": name}}}
        self.caches.workspaces.upsert(
            Workspace.model_validate(
                {"metadata": metadata, "resource": resource, "tuning": tuning()}
            )
        )
        manifest = job_pod(f"{name}-1", "team", name, "job-uid")
        manifest["status"] = pod_status(name, phase)
        self.caches.pods.upsert(Pod.model_validate(manifest))
        return Key("team", name)


@pytest.fixture
def room() -> Room:
    return Room()


async def test_each_training_is_asked_every_ten_seconds_and_wakes_its_workspace(
    room: Room,
) -> None:
    key = room.train("tune")
    room.proxy.answers[path("tune")] = {"step": 3, "total": 9, "loss": 0.5}
    async with asyncio.TaskGroup() as group:
        running = group.create_task(room.poller.run())
        await room.clock.advance(9.9)
        assert room.proxy.asked[path("tune")] == 1
        assert room.heard.of(key) == Progress(step=3, total_steps=9, loss=0.5)
        assert room.woken == [key]

        await room.clock.advance(10.0)
        assert room.proxy.asked[path("tune")] == 2
        assert room.woken == [key], "nothing new wakes nobody"

        room.proxy.answers[path("tune")] = {"step": 4, "total": 9, "loss": 0.4}
        await room.clock.advance(10.0)
        assert room.woken == [key, key]
        running.cancel()


async def test_a_training_that_does_not_answer_holds_nobody_up(room: Room) -> None:
    silent, talks = room.train("silent"), room.train("talks")
    room.proxy.answers[path("talks")] = {"step": 1}
    await room.poller.turn()
    assert room.heard.of(silent) is None
    assert room.heard.of(talks) == Progress(step=1)

    room.proxy.answers[path("talks")] = Transient("Down", "busy")
    await room.poller.turn()
    assert room.heard.of(talks) == Progress(step=1), "what was said stays said"
    for nonsense in ({"step": "two"}, b"<html>", b"[1]", b"", b" " * 20_000):
        room.proxy.answers[path("talks")] = nonsense
        await room.poller.turn()
        assert room.heard.of(talks) == Progress(step=1)


async def test_only_running_trainings_are_asked_and_ended_ones_forgotten(room: Room) -> None:
    key = room.train("tune")
    room.train("done", phase="Succeeded")
    room.proxy.answers[path("tune")] = {"step": 1}
    await room.poller.turn()
    room.train("tune", phase="Succeeded")
    await room.poller.turn()
    assert room.heard.of(key) is None
    assert dict(room.proxy.asked) == {path("tune"): 1}


async def test_many_trainings_are_asked_a_few_at_a_time(room: Room) -> None:
    for number in range(3 * AT_ONCE):
        room.train(f"tune-{number}")
    await room.poller.turn()
    assert len(room.proxy.asked) == 3 * AT_ONCE
    assert room.proxy.most == AT_ONCE
