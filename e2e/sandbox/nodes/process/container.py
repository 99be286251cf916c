"""The life of one container as a local process: start, probes, end, and start again.

Invariant: when `run` returns or is cancelled, nothing that it started is alive.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

import structlog

from controlkit.clock import Clock, wait_for
from sandbox.nodes.process.launch import Launch, Refusal
from sandbox.nodes.process.probing import Prober
from sandbox.nodes.process.status import Exit, State
from sandbox.nodes.process.views import Container, Pod, Probe
from sandbox.processes import Process, spawn

log = structlog.get_logger(__name__)

LONGEST_BACK_OFF: Final = 300.0
CALM_SECONDS: Final = 600.0
"""A container that ran this long is not in a crash loop."""
REFUSED_SECONDS: Final = 10.0
MESSAGE_BYTES: Final = 2048
Event = Callable[[Literal["Normal", "Warning"], str, str], None]


@dataclass(frozen=True)
class Surroundings:
    """What a container gets from its pod.

    Attributes:
        launch: works out the process as things are now, or why there can be none.
        log: the file for the output of the n-th start.
        last_words: the file in which the container may say why it ended.
        stop: set when the pod is to end.
        grace: seconds between SIGTERM and SIGKILL.
        changed: is told each new state.
        event: records a Kubernetes Event.
    """

    launch: Callable[[Container], Awaitable[Launch | Refusal]]
    log: Callable[[Container, int], Path]
    last_words: Path
    stop: asyncio.Event
    grace: Callable[[], float]
    changed: Callable[[State], None]
    event: Event
    prober: Prober
    clock: Clock
    first_back_off: float


class ContainerRunner:
    """Runs one container of a pod."""

    def __init__(
        self, pod: Pod, container: Container, around: Surroundings, *, restarts: int
    ) -> None:
        self._policy = pod.spec.restart_policy
        self._pod_name = f"{pod.metadata.name}_{pod.metadata.namespace}({pod.metadata.uid})"
        self._container = container
        self._around = around
        self.state = State(container, restarts=restarts)

    async def run(self) -> None:
        """Runs the container, and again as its restart policy says, until the pod is to end."""
        back_off = 0.0
        while not self._around.stop.is_set():
            launch = await self._around.launch(self._container)
            if isinstance(launch, Refusal):
                await self._refused(launch)
                continue
            how = await self._run_once(launch)
            self._set(self.state.ends(how))
            if self._is_final(how):
                return
            ran = (how.finished - how.started).total_seconds()
            back_off = 0.0 if ran > CALM_SECONDS else back_off
            if back_off:
                await self._wait(back_off)
            back_off = min(max(self._around.first_back_off, back_off * 2), LONGEST_BACK_OFF)
            if not self._around.stop.is_set():
                self._set(self.state.restarted())

    def _is_final(self, how: Exit) -> bool:
        if self._around.stop.is_set() or self._policy == "Never":
            return True
        return self._policy == "OnFailure" and how.code == 0

    async def _refused(self, refusal: Refusal) -> None:
        """Shows why the container can't run; what is missing may come, so it is tried again."""
        self._set(self.state.waits(refusal.reason, refusal.message))
        self._around.event("Warning", "Failed", refusal.message)
        await wait_for(self._around.clock, self._around.stop, REFUSED_SECONDS)

    async def _wait(self, seconds: float) -> None:
        message = (
            f"back-off {seconds:g}s restarting failed container={self._container.name}"
            f" pod={self._pod_name}"
        )
        ended = self.state
        self._set(self.state.waits("CrashLoopBackOff", message))
        self._around.event("Warning", "BackOff", message)
        if await wait_for(self._around.clock, self._around.stop, seconds):
            self._set(ended)

    async def _run_once(self, launch: Launch) -> Exit:
        path = self._around.log(self._container, self.state.restarts)
        self._around.last_words.write_bytes(b"")
        started = self._around.clock.now()
        process = spawn(
            self._container.name, launch.argv, log=path, env=launch.env, cwd=path.parent
        )
        try:
            self._set(self.state.starts(started))
            self._around.event("Normal", "Started", f"Container started; its log is {path}")
            await self._until_ended(process)
        finally:
            _kill(process)
        return self._exit(process, started)

    async def _until_ended(self, process: Process) -> None:
        unhealthy = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            ended = group.create_task(process.ended())
            others = [
                group.create_task(self._probe(unhealthy)),
                group.create_task(_one_of(self._around.stop, unhealthy)),
            ]
            await asyncio.wait({ended, others[1]}, return_when=asyncio.FIRST_COMPLETED)
            others[0].cancel()
            if not ended.done():
                await self._ask_to_end(process, ended)
            others[1].cancel()

    async def _ask_to_end(self, process: Process, ended: asyncio.Task[None]) -> None:
        deadline = self._around.clock.monotonic() + self._around.grace()
        hook = self._container.lifecycle.pre_stop
        if hook is not None and hook.sleep is not None:
            await asyncio.wait({ended}, timeout=min(hook.sleep.seconds, self._left(deadline)))
        self._around.event("Normal", "Killing", f"Stopping container {self._container.name}")
        process.send(signal.SIGTERM)
        await asyncio.wait({ended}, timeout=self._left(deadline))
        _kill(process)

    def _left(self, deadline: float) -> float:
        return max(0.0, deadline - self._around.clock.monotonic())

    async def _probe(self, unhealthy: asyncio.Event) -> None:
        """Watches the probes; the others wait for the startup probe."""
        container, prober = self._container, self._around.prober
        if container.startup_probe is not None:
            judge = self._judge("Startup", container.startup_probe, unhealthy)
            await prober.watch(container, container.startup_probe, judge)
            if unhealthy.is_set():
                return
        ready = container.readiness_probe is None
        self._set_flags(started=True, ready=ready)
        async with asyncio.TaskGroup() as group:
            if container.liveness_probe is not None:
                judge = self._judge("Liveness", container.liveness_probe, unhealthy)
                group.create_task(prober.watch(container, container.liveness_probe, judge))
            if container.readiness_probe is not None:
                probe = container.readiness_probe
                group.create_task(prober.watch(container, probe, self._judge_ready))

    def _judge(
        self, kind: str, probe: Probe, unhealthy: asyncio.Event
    ) -> Callable[[bool, str], bool]:
        def judge(success: bool, problem: str) -> bool:
            if not success:
                times = probe.failure_threshold
                text = f"{kind} probe failed {times} times, container will be restarted: {problem}"
                self._around.event("Warning", "Unhealthy", text)
                unhealthy.set()
            return not success or kind == "Startup"

        return judge

    def _judge_ready(self, success: bool, problem: str) -> bool:
        if not success and self.state.ready:
            self._around.event("Warning", "Unhealthy", f"Readiness probe failed: {problem}")
        self._set_flags(started=True, ready=success)
        return False

    def _exit(self, process: Process, started: datetime) -> Exit:
        assert process.child is not None
        status = process.child.wait()
        message = _tail(self._around.last_words)
        if not message and status and self._container.termination_message_policy != "File":
            message = _tail(process.log)
        return Exit(
            code=128 - status if status < 0 else status,
            started=started,
            finished=self._around.clock.now(),
            message=message,
            signal=max(0, -status),
        )

    def _set_flags(self, *, started: bool, ready: bool) -> None:
        self._set(self.state.flagged(started=started, ready=ready))

    def _set(self, state: State) -> None:
        if state != self.state:
            self.state = state
            self._around.changed(state)


async def _one_of(first: asyncio.Event, second: asyncio.Event) -> None:
    async with asyncio.TaskGroup() as group:
        waiting = {group.create_task(first.wait()), group.create_task(second.wait())}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()


def _kill(process: Process) -> None:
    """Ends whatever is left of the process and its children, and waits for it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    if process.child is not None:
        process.child.wait()


def _tail(path: Path) -> str:
    if not path.exists():
        return ""
    return path.read_bytes()[-MESSAGE_BYTES:].decode(errors="replace").strip()
