"""An engine without a model: it answers with the words of the prompt, and does what a test tells it."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

import httpx2

from runtimes.engines.contract import (
    Delta,
    Event,
    Finished,
    Generation,
    ModelInfo,
    Refused,
    Started,
)
from runtimes.engines.options import EngineOptions
from runtimes.failure import StartupFailure


@dataclass
class Script:
    """What the engine shall do; flags may be changed from another thread while it runs."""

    load_failure: StartupFailure | None = None
    held_load: bool = False
    held_answers: bool = False
    refusal: Refused | None = None
    bug: bool = False
    broken: str = ""
    seen: list[Generation] = field(default_factory=list)
    started: int = 0
    abandoned: int = 0
    closed: bool = False


async def until(condition: Callable[[], bool]) -> None:
    while True:
        if condition():
            return
        await asyncio.sleep(0.005)


class FakeEngine:
    upstream: httpx2.AsyncClient | None = None

    def __init__(self, options: EngineOptions, script: Script) -> None:
        self._options = options
        self._script = script
        self._turn = asyncio.Lock()

    async def load(self) -> ModelInfo:
        await until(lambda: not self._script.held_load)
        if self._script.load_failure is not None:
            raise self._script.load_failure
        name, revision = self._options.name, self._options.revision
        return ModelInfo(name, revision, "fake", "1", "float32", "none", 4096, "nowhere")

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def generate(self, request: Generation) -> AsyncGenerator[Event, None]:
        script = self._script
        script.seen.append(request)
        if script.refusal is not None:
            raise script.refusal
        if script.bug:
            raise RuntimeError("a secret of the engine")
        words = (request.prompt or request.messages[-1].content).upper().split()
        async with self._turn:
            script.started += 1
            yield Started(prompt_tokens=len(words))
            try:
                await until(lambda: not script.held_answers)
                for place, word in enumerate(words):
                    yield Delta(f" {word}" if place else word, 1)
            except (GeneratorExit, asyncio.CancelledError):
                script.abandoned += 1
                raise
            texts = (" ".join(words),) * request.sampling.num_return_sequences
            yield Finished(texts, len(words), "stop")

    async def exposition(self) -> str:
        return ""

    def problems(self) -> list[str]:
        return [self._script.broken] if self._script.broken else []

    async def close(self) -> None:
        self._script.closed = True
