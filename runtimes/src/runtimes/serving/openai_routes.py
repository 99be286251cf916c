"""OpenAI's interface: chat and text completions, at once or streamed, and the list of models.

Both kinds run through one path; `Shape` holds what tells their answers apart.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.responses import JSONResponse

from runtimes.engines.contract import Delta, Finished, Refused, Started
from runtimes.serving.connection import while_connected
from runtimes.serving.deployment import Deployment
from runtimes.serving.generate import generate
from runtimes.serving.observe import Usage
from runtimes.serving.openai_schemas import ChatCompletionBody, TextCompletionBody
from runtimes.serving.stops import StopText, cut
from runtimes.serving.streaming import DONE, EventStream, Write

OWNER = "kaito"


@dataclass(frozen=True)
class Shape:
    """How the answers of one kind of completion look."""

    prefix: str
    whole: str
    piece: str
    chat: bool

    def choice(self, text: str, reason: str | None) -> dict[str, Any]:
        """The one choice of a whole answer."""
        shared = {"index": 0, "finish_reason": reason, "logprobs": None}
        if self.chat:
            return {**shared, "message": {"role": "assistant", "content": text, "refusal": None}}
        return {**shared, "text": text}

    def part(self, text: str | None, reason: str | None, *, first: bool = False) -> dict[str, Any]:
        """The one choice of an event; without text it only begins or ends."""
        shared = {"index": 0, "finish_reason": reason, "logprobs": None}
        if not self.chat:
            return {**shared, "text": text or ""}
        delta = {} if text is None else {"content": text}
        return {**shared, "delta": {"role": "assistant", "content": ""} if first else delta}


CHAT = Shape("chatcmpl", "chat.completion", "chat.completion.chunk", chat=True)
TEXT = Shape("cmpl", "text_completion", "text_completion", chat=False)


def openai_routes(deployment: Deployment, dependencies: Sequence[Any] = ()) -> APIRouter:
    """The routes under `/v1`."""
    router = APIRouter(prefix="/v1", dependencies=list(dependencies))

    @router.get("/models")
    async def models() -> dict[str, Any]:
        """The names that a request's `model` may have."""
        deployment.gate.check()
        return {"object": "list", "data": [_model(deployment, name) for name in _names(deployment)]}

    @router.get("/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        """One of them."""
        deployment.gate.check()
        _adapter(deployment, name)
        return _model(deployment, name)

    @router.post("/chat/completions")
    async def chat_completions(body: ChatCompletionBody, request: Request) -> Response:
        """Answer a conversation."""
        return await _complete(deployment, CHAT, body, request)

    @router.post("/completions")
    async def completions(body: TextCompletionBody, request: Request) -> Response:
        """Go on from a text."""
        return await _complete(deployment, TEXT, body, request)

    return router


async def _complete(
    deployment: Deployment,
    shape: Shape,
    body: ChatCompletionBody | TextCompletionBody,
    request: Request,
) -> Response:
    usage: Usage = request.state.usage
    deployment.gate.check()
    generation = body.generation(usage.request_id, _adapter(deployment, body.model))
    before = body.prompt[0] if isinstance(body, TextCompletionBody) and body.echo else ""
    head = {
        "id": f"{shape.prefix}-{usage.request_id}",
        "created": int(time.time()),
        "model": body.model or deployment.metrics.model,
    }
    if not body.stream:
        finished = await while_connected(request.receive, generate(deployment, generation, usage))
        text = before + cut(finished.texts[0], generation.sampling.stop_strings)
        choices = [shape.choice(text, finished.reason)]
        counts = _counts(usage, finished)
        return JSONResponse({**head, "object": shape.whole, "choices": choices, "usage": counts})

    async def produce(write: Write) -> None:
        stops = StopText(generation.sampling.stop_strings)
        # Asked for usage, every event has the key, and all but the last have it empty.
        empty = {"usage": None} if body.wants_usage else {}

        async def send(*choices: dict[str, Any], usage: Mapping[str, Any] = empty) -> None:
            await write({**head, "object": shape.piece, "choices": list(choices), **usage})

        async def follow(event: Started | Delta) -> None:
            if isinstance(event, Started):
                if shape.chat or before:
                    await send(shape.part(before, None, first=True))
            elif text := stops.push(event.text):
                await send(shape.part(text, None))

        finished = await generate(deployment, generation, usage, follow)
        if rest := stops.finish(finished.texts[0]):
            await send(shape.part(rest, None))
        await send(shape.part(None, finished.reason))
        if body.wants_usage:
            await send(usage={"usage": _counts(usage, finished)})
        await write(DONE)

    return EventStream(produce, usage)


def _counts(usage: Usage, finished: Finished) -> dict[str, int]:
    read, made = usage.prompt_tokens or 0, finished.new_tokens
    return {"prompt_tokens": read, "completion_tokens": made, "total_tokens": read + made}


def _names(deployment: Deployment) -> list[str]:
    selectable = deployment.info.selectable if deployment.info else ()
    return [deployment.metrics.model, *selectable]


def _adapter(deployment: Deployment, name: str) -> str:
    """What to put on the base model for this name; raises `Refused` with status 404."""
    names = _names(deployment)
    if not name or name == names[0]:
        return ""
    if name in names:
        return name
    raise Refused(
        404,
        f"The model {name!r:.80} does not exist",
        hint=f"Served here: {', '.join(names)}",
        code="model_not_found",
        param="model",
    )


def _model(deployment: Deployment, name: str) -> dict[str, Any]:
    info = deployment.info
    assert info is not None, "the gate opens after the model is loaded"
    base = deployment.metrics.model
    return {
        "id": name,
        "object": "model",
        "created": deployment.loaded_at,
        "owned_by": OWNER,
        "root": base,
        "parent": None if name == base else base,
        "max_model_len": info.max_model_len,
    }
