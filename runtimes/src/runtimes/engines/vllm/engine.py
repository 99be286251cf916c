"""The engine on vLLM: starts its server, waits until it answers, and speaks to it over a Unix socket.

Nothing of vLLM is imported here, so its version is a matter of the image alone. When its server ends, so does
this process's health: only a new pod can serve again.
"""

import asyncio
import json
import os
import tempfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx2
import structlog

from runtimes.engines.contract import Delta, Event, Finished, Generation, ModelInfo, Started
from runtimes.engines.lengths import Limits, budget
from runtimes.engines.options import EngineOptions
from runtimes.engines.vllm import translate
from runtimes.engines.vllm.child import Child
from runtimes.engines.vllm.cluster import start_head
from runtimes.engines.vllm.command import command
from runtimes.engines.vllm.lora_files import prepare
from runtimes.failure import Exit, StartupFailure

POLL_SECONDS = 0.25
ANSWER_SECONDS = 60.0
CLOSE_SECONDS = 10.0
SOCKET = "vllm.sock"

log = structlog.get_logger(__name__)


class VllmEngine:
    """An `Engine`; `load` once, then keep `run` running."""

    def __init__(self, options: EngineOptions) -> None:
        self._options = options
        self._folder = tempfile.TemporaryDirectory(prefix="vllm-")
        self._child = Child("vllm")
        self._ray = Child("ray")
        self._limits = Limits(0, 0)
        transport = httpx2.AsyncHTTPTransport(uds=str(self._socket))
        # Answers take as long as they take: the gate has the deadline of every request.
        timeout = httpx2.Timeout(ANSWER_SECONDS, read=None)
        self._http = httpx2.AsyncClient(
            transport=transport, base_url="http://vllm", timeout=timeout
        )
        self.upstream: httpx2.AsyncClient | None = self._http

    @property
    def _socket(self) -> Path:
        return Path(self._folder.name) / SOCKET

    async def load(self) -> ModelInfo:
        """Start vLLM's server; returns once it answers. Nothing is left of one that does not."""
        try:
            return await self._load()
        except BaseException:
            await self.close()
            raise

    async def _load(self) -> ModelInfo:
        options = self._options
        merging = options.adapters and options.adapter_mode == "merge"
        # Merged adapters take the model's name, so that every client gets them.
        base = f"{options.name}-bare" if merging else options.name
        loras = await asyncio.to_thread(
            prepare,
            options.adapters,
            Path(self._folder.name),
            merge_as=options.name if merging else "",
        )
        words = command(options, socket=self._socket, name=base, loras=loras)
        if options.nodes > 1:
            self._ray = await start_head(options.machine.gpus)
        try:
            self._child.start(words, _environment(options, os.environ))
        except OSError as error:
            raise StartupFailure(Exit.UNEXPECTED, f"vLLM cannot be started: {error}") from error
        await self._answers()
        models = (await self._http.get("/v1/models")).json()["data"]
        version = (await self._http.get("/version")).json()["version"]
        context = int(models[0]["max_model_len"])
        self._limits = Limits(context, min(options.max_new_tokens, context))
        return ModelInfo(
            name=options.name,
            revision=options.revision,
            engine="vllm",
            version=version,
            dtype=options.loading.torch_dtype,
            quantization=options.loading.quantization,
            max_model_len=context,
            device="cuda" if options.machine.gpus else "cpu",
            adapters=tuple(adapter.info for adapter in options.adapters),
            selectable=() if merging else tuple(adapter.name for adapter in options.adapters),
        )

    async def _answers(self) -> None:
        """Return once the server is healthy; the pod's startup probe is the deadline."""
        while True:
            try:
                if (await self._http.get("/health")).status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            if self._child.ended:
                raise StartupFailure(Exit.WEIGHTS, f"{self._child.ended}; its log is above")
            await asyncio.sleep(POLL_SECONDS)

    async def run(self) -> None:
        """Watch the server until cancelled."""
        await self._child.over()
        log.critical("vLLM's server ended", reason=self._child.ended)
        await asyncio.Event().wait()

    async def generate(self, request: Generation) -> AsyncGenerator[Event, None]:
        """See `Engine.generate`."""
        try:
            async with aclosing(self._generate(request)) as events:
                async for event in events:
                    yield event
        except httpx2.TransportError as error:
            raise translate.failed() from error

    async def _generate(self, request: Generation) -> AsyncGenerator[Event, None]:
        translate.check(request.sampling)
        model = request.adapter or self._options.name
        tokens = await self._tokens(translate.tokenize(request, model))
        prefix = 0
        if request.prefix:
            prefix = len(await self._tokens({"model": model, "prompt": request.prefix}))
        share = budget(
            request.sampling,
            self._limits,
            prompt_tokens=len(tokens),
            prefix_tokens=min(prefix, len(tokens)),
            trim_prompt=request.trim_prompt,
        )
        prompt = tokens[len(tokens) - share.prompt_tokens :]
        body = translate.complete(request.sampling, share, prompt, model)
        answer = translate.Answer(request.sampling.num_return_sequences)
        started = False
        async for event in self._events(body):
            delta = answer.take(event)
            if not started:
                started = True
                yield Started(len(prompt))
            if isinstance(delta, Delta):
                yield delta
        finished: Finished = answer.finish()
        yield finished

    async def _tokens(self, body: Mapping[str, Any]) -> list[int]:
        answer = await self._http.post("/tokenize", json=body)
        if answer.status_code != 200:
            raise translate.refused(answer.status_code, answer.content)
        tokens: list[int] = answer.json()["tokens"]
        return tokens

    async def _events(self, body: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """The data of each server-sent event; leaving early ends the work in vLLM."""
        async with self._http.stream("POST", "/v1/completions", json=body) as answer:
            if answer.status_code != 200:
                raise translate.refused(answer.status_code, await answer.aread())
            async for line in answer.aiter_lines():
                data = line.removeprefix("data: ")
                if data not in {line, "[DONE]"}:
                    yield json.loads(data)

    async def exposition(self) -> str:
        """What vLLM counts; its process's metrics are left out, because ours have the same names."""
        text = (await self._http.get("/metrics")).text
        lines = (line for line in text.splitlines() if _name(line).startswith("vllm:"))
        return "".join(f"{line}\n" for line in lines)

    def problems(self) -> list[str]:
        """See `Engine.problems`."""
        return [child.ended for child in (self._child, self._ray) if child.ended]

    async def close(self) -> None:
        """End vLLM's server."""
        await self._http.aclose()
        await self._child.stop(CLOSE_SECONDS)
        await self._ray.stop(CLOSE_SECONDS)
        self._folder.cleanup()


def _name(line: str) -> str:
    """The metric that a line of Prometheus text is about."""
    words = line.split(maxsplit=3)
    return words[2] if line.startswith("#") and len(words) > 2 else line


def _environment(options: EngineOptions, environment: Mapping[str, str]) -> dict[str, str]:
    """Ours without secrets: the model is on disk, so nothing has to be asked for anywhere."""
    kept = {
        name: value
        for name, value in environment.items()
        if not name.startswith("RUNTIME_") and "TOKEN" not in name
    }
    kept |= {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    if not options.machine.gpus:
        kept |= {"VLLM_TARGET_DEVICE": "cpu"}
        kept.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    return kept
