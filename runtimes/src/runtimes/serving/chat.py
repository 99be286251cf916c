"""`POST /chat`: one prompt or conversation in, one text out, at once or while it is made."""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request, Response

from runtimes.engines.contract import Delta, Started
from runtimes.serving.connection import while_connected
from runtimes.serving.deployment import Deployment
from runtimes.serving.generate import generate
from runtimes.serving.observe import Usage
from runtimes.serving.schemas import ChatAnswer, ChatRequest
from runtimes.serving.streaming import DONE, EventStream, Write


def chat_routes(deployment: Deployment, dependencies: Sequence[Any] = ()) -> APIRouter:
    """The routes of the chat interface."""
    router = APIRouter(dependencies=list(dependencies))

    @router.post("/chat", response_model=ChatAnswer)
    async def chat(body: ChatRequest, request: Request) -> ChatAnswer | Response:
        """Generate text from a prompt or a conversation."""
        usage: Usage = request.state.usage
        generation = body.generation(usage.request_id, deployment.settings.pipeline)

        async def produce(write: Write) -> None:
            async def follow(event: Started | Delta) -> None:
                if isinstance(event, Delta) and event.text:
                    await write({"delta": event.text})

            finished = await generate(deployment, generation, usage, follow)
            await write({"Result": body.result(finished.texts)})
            await write(DONE)

        if body.stream:
            return EventStream(produce, usage)
        work = generate(deployment, generation, usage)
        finished = await while_connected(request.receive, work)
        return ChatAnswer(Result=body.result(finished.texts))

    return router
