"""From settings to a model that answers: weights, engine, first token, with progress all the way.

Everything slow happens on threads, so the port answers from the first second.
"""

import asyncio
import os
import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import structlog

from runtimes.engines.adapters import Adapter
from runtimes.engines.adapters import find as find_adapters
from runtimes.engines.contract import Engine
from runtimes.engines.options import EngineOptions, LoadOptions, Machine
from runtimes.failure import Exit, StartupFailure
from runtimes.serving.deployment import Deployment
from runtimes.serving.engine_choice import EngineMaker
from runtimes.serving.hardware import gpus
from runtimes.serving.metrics import Metrics
from runtimes.serving.settings import Settings
from runtimes.weights import Plan, Source, Weights, find

SAMPLE_SECONDS = 1.0
LOG_SECONDS = 5.0
SPEED_SAMPLES = 6

log = structlog.get_logger(__name__)


async def bring_up(
    deployment: Deployment, make_engine: EngineMaker, progress: "Progress"
) -> Engine:
    """Load the model and open the gate; raises `StartupFailure`."""
    settings = deployment.settings
    loop = asyncio.get_running_loop()
    # Not the loop's own pool: that one is joined at exit, and a download would hold up SIGTERM.
    thread = ThreadPoolExecutor(1, "bring-up")
    template = chat_template(settings.chat_template)
    weights = await loop.run_in_executor(thread, find, source(settings), progress.announce)
    await progress.loading()
    adapters = await loop.run_in_executor(
        thread, find_adapters, settings.adapters_dir, settings.adapter, os.environ
    )
    options = engine_options(settings, weights, template, adapters)
    engine = await loop.run_in_executor(thread, make_engine, options)
    info = await engine.load()
    seconds = time.time() - psutil.Process().create_time()
    deployment.metrics.load_seconds.set(seconds)
    deployment.loaded(engine, info)
    if info.device == "cpu":
        log.warning("no GPU was found: the model runs on the CPU")
    log.info(
        "ready",
        model=info.name,
        revision=info.revision,
        folder=str(weights.folder),
        dtype=info.dtype,
        device=info.device,
        max_model_len=info.max_model_len,
        adapters=[adapter.name for adapter in info.adapters],
        seconds=round(seconds, 1),
    )
    return engine


def source(settings: Settings) -> Source:
    """The part of the settings that says where weights come from."""
    return Source(
        pretrained_model_name_or_path=settings.pretrained_model_name_or_path,
        revision=settings.revision,
        allow_remote_files=settings.allow_remote_files,
        download_dir=settings.download_dir,
        hub_token_file=settings.hub_token_file,
    )


def engine_options(
    settings: Settings, weights: Weights, template: str, adapters: tuple[Adapter, ...]
) -> EngineOptions:
    """The part of the settings that an engine needs."""
    return EngineOptions(
        name=settings.model_name,
        folder=weights.folder,
        revision=weights.commit,
        loading=LoadOptions(
            torch_dtype=settings.torch_dtype,
            device_map=settings.device_map,
            load_in_4bit=settings.load_in_4bit,
            load_in_8bit=settings.load_in_8bit,
            chat_template=template,
        ),
        max_new_tokens=settings.max_new_tokens_limit,
        max_model_len=settings.max_model_len,
        threads=settings.threads,
        adapters=adapters,
        adapter_mode=settings.adapter_mode,
        machine=machine(),
        weight_bytes=sum(file.stat().st_size for file in weights.folder.glob("*.safetensors")),
        gpu_memory_utilization=settings.gpu_memory_utilization,
        nodes=settings.nodes,
        node_rank=node_rank(settings, os.environ),
        leader_address=settings.leader_address,
        vllm=settings.vllm,
    )


def node_rank(settings: Settings, environment: Mapping[str, str]) -> int:
    """Which of several nodes this is: as told, or the number that the pod's name ends with."""
    if settings.nodes == 1:
        return 0
    told = (
        settings.node_rank if settings.node_rank is not None else environment.get("POD_INDEX", "")
    )
    if str(told).isdecimal() and int(told) < settings.nodes:
        return int(told)
    raise StartupFailure(
        Exit.SETTINGS,
        f"which of {settings.nodes} nodes is this? set --node_rank, or POD_INDEX, which is {told!r}",
    )


def machine() -> Machine:
    """The GPUs of this node."""
    found = gpus()
    if not found:
        return Machine()
    return Machine(len(found), min(gpu.memory_total or 0 for gpu in found))


def chat_template(given: str) -> str:
    """The template itself: what holds a brace or a line break is one, anything else names a file."""
    if not given or "{" in given or "\n" in given:
        return given
    try:
        return Path(given).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise StartupFailure(
            Exit.SETTINGS, f"--chat_template {given} cannot be read: {error}"
        ) from error


class Progress:
    """Keeps metrics and log up to date while a model is on its way."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._plan: Plan | None = None
        self._samples: deque[tuple[float, int]] = deque(maxlen=SPEED_SAMPLES)
        self.step = "looking for the model"

    def announce(self, plan: Plan) -> None:
        """A download begins; may be called from any thread."""
        log.info("downloading", model=plan.model, commit=plan.commit, bytes=plan.total)
        self.step = "downloading"
        self._plan = plan

    async def loading(self) -> None:
        """The weights are here, and are now put into memory."""
        await self._sample()
        self._plan = None
        self.step = "loading"

    async def run(self) -> None:
        """Report until cancelled."""
        begin = last_line = time.monotonic()
        while True:
            await asyncio.sleep(SAMPLE_SECONDS)
            arrived = await self._sample()
            now = time.monotonic()
            if now - last_line >= LOG_SECONDS:
                last_line = now
                log.info(self.step, seconds=round(now - begin), **arrived)

    async def _sample(self) -> dict[str, int]:
        """Measure what is on disk; the numbers, for the log."""
        plan = self._plan
        if plan is None:
            return {}
        arrived = await asyncio.to_thread(plan.arrived)
        self._samples.append((time.monotonic(), arrived))
        (then, before), (now, after) = self._samples[0], self._samples[-1]
        speed = (after - before) / (now - then) if now > then else 0.0
        metrics = self._metrics
        metrics.download_bytes.set(arrived)
        metrics.download_total.set(plan.total)
        metrics.download_speed.set(speed)
        left = plan.total - arrived
        metrics.download_remaining.set(left / speed if speed > 0 else -1 if left else 0)
        return {"bytes": arrived, "of": plan.total, "bytes_per_second": round(speed)}
