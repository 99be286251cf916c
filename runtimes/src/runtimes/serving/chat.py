"""`POST /chat`: one prompt or conversation in, one text out."""

from contextlib import aclosing

from fastapi import APIRouter, Request

from runtimes.engines.contract import Engine, Finished, Generation, Refused, Started
from runtimes.serving.connection import while_connected
from runtimes.serving.deployment import Deployment
from runtimes.serving.gate import Ticket
from runtimes.serving.meter import Meter
from runtimes.serving.observe import Usage
from runtimes.serving.schemas import ChatAnswer, ChatRequest


def chat_routes(deployment: Deployment) -> APIRouter:
    """The routes of the chat interface."""
    router = APIRouter()
    gate = deployment.gate

    async def answer(
        engine: Engine, generation: Generation, ticket: Ticket, meter: Meter
    ) -> Finished:
        async with aclosing(engine.generate(generation)) as events:
            async for event in events:
                meter.see(event)
                if isinstance(event, Started):
                    gate.started(ticket)
                if isinstance(event, Finished):
                    return event
        raise Refused(500, "The engine ended without an answer")

    @router.post("/chat")
    async def chat(body: ChatRequest, request: Request) -> ChatAnswer:
        """Generate text from a prompt or a conversation."""
        usage: Usage = request.state.usage
        generation = body.generation(usage.request_id, deployment.settings.pipeline)
        engine = deployment.model()
        async with gate.admit() as ticket:
            work = answer(engine, generation, ticket, Meter(deployment.metrics, usage))
            finished = await while_connected(request.receive, work)
        return ChatAnswer(Result=body.result(finished.texts))

    return router
