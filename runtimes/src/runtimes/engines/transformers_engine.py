"""The engine on transformers: one thread owns the model, and requests that fit together share its steps.

The event loop never touches a tensor. A request is tokenized on a second thread, so a long prompt is refused
while the model works; it then waits in line until the model thread takes it, alone or in a batch.
"""

import asyncio
import importlib
from collections import deque
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor

import structlog
import torch
import transformers

from runtimes.engines.contract import Event, Finished, Generation, ModelInfo, Refused, Sampling
from runtimes.engines.jobs import Job, take_batch
from runtimes.engines.lengths import Budget, Limits
from runtimes.engines.loading import Loaded, load
from runtimes.engines.options import EngineOptions
from runtimes.engines.processors import cpu_limit
from runtimes.engines.prompts import PromptReader
from runtimes.engines.worker import Activate, Worker
from runtimes.failure import Exit, StartupFailure

MAX_ROWS = 8
# How long the first request waits for company: nothing beside an answer, enough for parallel callers.
GATHER_SECONDS = 0.01
CLOSE_SECONDS = 5.0
# A batch may hold what one longest request may, so that sharing never needs more memory; this is
# the floor for models with a short context.
BATCH_TOKENS = 4096

log = structlog.get_logger(__name__)


class TransformersEngine:
    """An `Engine`; `load` once, then keep `run` running."""

    upstream = None

    def __init__(self, options: EngineOptions) -> None:
        self._options = options
        self._model_thread = ThreadPoolExecutor(1, "model")
        self._prompt_thread = ThreadPoolExecutor(1, "prompt")
        self._waiting: deque[Job] = deque()
        self._running: list[Job] = []
        self._arrived = asyncio.Event()
        self._worker: Worker | None = None
        self._prompts: PromptReader | None = None
        self._batch_tokens = BATCH_TOKENS
        self._broken = ""

    async def load(self) -> ModelInfo:
        """Load the model and let it make one token, so that ready means ready."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._model_thread, self._load)

    def _load(self) -> ModelInfo:
        options = self._options
        torch.set_num_threads(options.threads or min(torch.get_num_threads(), cpu_limit()))
        loaded = load(options.folder, options.loading)
        context = _context(options, loaded)
        vocabulary = loaded.model.get_input_embeddings().num_embeddings
        limits = Limits(context, min(options.max_new_tokens, context))
        self._prompts = PromptReader(loaded.tokenizer, vocabulary, limits)
        self._worker = (
            Worker(loaded, _adapters(options, loaded)) if options.adapters else Worker(loaded)
        )
        self._batch_tokens = max(BATCH_TOKENS, context)
        self._worker.run([_first_word()])
        return ModelInfo(
            name=options.name,
            revision=options.revision,
            engine="transformers",
            version=transformers.__version__,
            dtype=loaded.dtype,
            quantization=options.loading.quantization,
            max_model_len=context,
            device=str(loaded.model.device),
            adapters=tuple(adapter.info for adapter in options.adapters),
            selectable=tuple(adapter.name for adapter in options.adapters)
            if options.adapter_mode == "select"
            else (),
        )

    async def run(self) -> None:
        """Take batches from the line until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._arrived.wait()
            if len(self._waiting) < MAX_ROWS:
                await asyncio.sleep(GATHER_SECONDS)
            self._running = take_batch(self._waiting, rows=MAX_ROWS, tokens=self._batch_tokens)
            if not self._waiting:
                self._arrived.clear()
            if self._running:
                await loop.run_in_executor(self._model_thread, self._work, self._running)
                self._running = []

    async def generate(self, request: Generation) -> AsyncGenerator[Event, None]:
        """See `Engine.generate`."""
        assert self._prompts is not None, "load first"
        loop = asyncio.get_running_loop()
        prompt, share = await loop.run_in_executor(self._prompt_thread, self._prompts.read, request)
        events: asyncio.Queue[Event | Refused] = asyncio.Queue()

        def emit(event: Event | Refused) -> None:
            loop.call_soon_threadsafe(events.put_nowait, event)

        job = Job(request, prompt, share, emit)
        self._waiting.append(job)
        self._arrived.set()
        try:
            while True:
                event = await events.get()
                if isinstance(event, Refused):
                    raise event
                yield event
                if isinstance(event, Finished):
                    return
        finally:
            job.cancelled = True

    def _work(self, batch: list[Job]) -> None:
        """The door between the model and the requests: whatever goes wrong becomes a refusal."""
        assert self._worker is not None, "load first"
        try:
            self._worker.run(batch)
        except torch.OutOfMemoryError:
            log.warning("generation ran out of memory", requests=len(batch))
            torch.cuda.empty_cache()
            _refuse(
                batch,
                Refused(
                    503,
                    "The model ran out of GPU memory",
                    hint="Send a shorter prompt or ask for fewer tokens",
                    retry_after=1,
                ),
            )
        except torch.AcceleratorError as error:
            # The context of a failed GPU call is lost: only a new process can work again.
            log.exception("the accelerator failed")
            self._broken = f"the accelerator failed: {error}"
            _refuse(batch, Refused(503, "The model's accelerator failed", retry_after=30))
        except Exception:
            log.exception("generation failed", requests=[job.request.id for job in batch])
            _refuse(batch, Refused(500, "Generation failed"))

    async def exposition(self) -> str:
        """All that it does is counted by the routes."""
        return ""

    def problems(self) -> list[str]:
        """See `Engine.problems`."""
        return [self._broken] if self._broken else []

    async def close(self) -> None:
        """Stop the running batch at its next step, and wait for that step."""
        for job in (*self._running, *self._waiting):
            job.cancelled = True
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await loop.run_in_executor(self._model_thread, _nothing)
        except TimeoutError:
            log.warning("the model is still in a step", waited_seconds=CLOSE_SECONDS)
        self._model_thread.shutdown(wait=False)
        self._prompt_thread.shutdown(wait=False)


def _adapters(options: EngineOptions, loaded: Loaded) -> Activate:
    # Imported here: peft takes a second, and most models are served without an adapter.
    module = importlib.import_module("runtimes.engines.lora")
    activate: Activate = module.Adapters(
        loaded.model, options.adapters, options.adapter_mode
    ).active
    return activate


def _context(options: EngineOptions, loaded: Loaded) -> int:
    asked = options.max_model_len or loaded.context
    if asked > loaded.context:
        raise StartupFailure(
            Exit.SETTINGS,
            f"--max_model_len {asked} is above the model's own context of {loaded.context}",
        )
    return asked


def _first_word() -> Job:
    """A request whose answer nobody reads: it loads kernels and finds what cannot run."""
    request = Generation(id="warm-up", sampling=Sampling())
    return Job(request, [0], Budget(prompt_tokens=1, new_tokens=2, min_new_tokens=0), emit=_ignore)


def _refuse(batch: list[Job], refused: Refused) -> None:
    for job in batch:
        job.emit(refused)


def _ignore(event: Event | Refused) -> None:
    del event


def _nothing() -> None:
    """Returns once the thread is free."""
