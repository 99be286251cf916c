"""Several nodes that share one model: Ray joins them, and the first one's vLLM uses all their GPUs.

Every node but the first only lends its GPUs; it is alive while Ray runs, and answers no prompt.
"""

import asyncio
import os
import shutil
from collections.abc import AsyncGenerator

import structlog

from runtimes.engines.contract import Event, Generation, ModelInfo, Refused
from runtimes.engines.options import EngineOptions
from runtimes.engines.vllm.child import Child
from runtimes.failure import Exit, StartupFailure

PORT = 6379
# Ray gives up on a first node that is not there yet; a worker's pod often starts before the leader's.
RETRY_SECONDS = 5.0
SETTLED_SECONDS = 10.0
CLOSE_SECONDS = 10.0

log = structlog.get_logger(__name__)


def head_command(gpus: int) -> list[str]:
    """The words that start Ray on the first node."""
    return [_ray(), "start", "--head", f"--port={PORT}", f"--num-gpus={gpus}", *_QUIET]


def worker_command(leader: str, gpus: int) -> list[str]:
    """The words that join another node to it."""
    return [_ray(), "start", f"--address={leader}:{PORT}", f"--num-gpus={gpus}", *_QUIET]


_QUIET = ("--include-dashboard=false", "--disable-usage-stats", "--block")


class WorkerEngine:
    """An `Engine` that lends this node's GPUs to the leader's."""

    upstream = None

    def __init__(self, options: EngineOptions) -> None:
        self._options = options
        self._ray = Child("ray")

    async def load(self) -> ModelInfo:
        """Join the leader; tried again until it is there, for the pod's startup probe has the deadline."""
        options = self._options
        words = worker_command(options.leader_address, options.machine.gpus)
        while True:
            self._ray = Child("ray")
            self._ray.start(words, os.environ)
            if await _settles(self._ray):
                break
            log.info("the leader is not there yet", leader=options.leader_address)
            await asyncio.sleep(RETRY_SECONDS)
        return ModelInfo(
            name=options.name,
            revision=options.revision,
            engine="vllm worker",
            version="",
            dtype=options.loading.torch_dtype,
            quantization=options.loading.quantization,
            max_model_len=0,
            device="cuda" if options.machine.gpus else "cpu",
        )

    async def run(self) -> None:
        """Ray does all the work."""
        await asyncio.Event().wait()

    def generate(self, request: Generation) -> AsyncGenerator[Event, None]:
        """Only the leader answers: always raises `Refused`."""
        del request
        leader = self._options.leader_address
        raise Refused(503, "This node works for another one", hint=f"Ask {leader}")

    async def exposition(self) -> str:
        """Ray's metrics are on the leader."""
        return ""

    def problems(self) -> list[str]:
        """See `Engine.problems`: without Ray the leader has lost a part of its model."""
        return [self._ray.ended] if self._ray.ended else []

    async def close(self) -> None:
        """Leave the leader."""
        await self._ray.stop(CLOSE_SECONDS)


async def start_head(gpus: int) -> Child:
    """Ray on the first node; raises `StartupFailure`."""
    ray = Child("ray")
    ray.start(head_command(gpus), os.environ)
    if not await _settles(ray):
        raise StartupFailure(Exit.UNEXPECTED, f"Ray does not start: {ray.ended}")
    return ray


async def _settles(ray: Child) -> bool:
    """True once Ray has run for a while; false if it ends before."""
    try:
        async with asyncio.timeout(SETTLED_SECONDS):
            await ray.over()
    except TimeoutError:
        return True
    return False


def _ray() -> str:
    found = shutil.which("ray")
    if found is None:
        raise StartupFailure(
            Exit.SETTINGS,
            "several nodes need the program `ray`, which this image does not have: use its GPU build",
        )
    return found
