"""`/v1` of an engine that speaks OpenAI's interface itself: its own bytes in both directions.

The gate, the deadline, the keys and the counts are ours all the same, and the client's leaving ends the work.
"""

import json
from collections.abc import Sequence
from typing import Any

import httpx2
from fastapi import APIRouter, Request, Response
from starlette.types import Receive, Scope, Send

from runtimes.engines.contract import Refused
from runtimes.serving.connection import while_connected
from runtimes.serving.deployment import Deployment
from runtimes.serving.observe import Usage
from runtimes.serving.refusals import content

# About this connection, or made anew for the next one.
HOP_BY_HOP = {
    "connection",
    "keep-alive",
    "transfer-encoding",
    "te",
    "upgrade",
    "trailer",
    "server",
    "date",
}
# The engine's socket is ours alone: keys of clients are not its business.
NOT_SENT = HOP_BY_HOP | {"host", "authorization", "content-length"}


def proxy_routes(deployment: Deployment, dependencies: Sequence[Any] = ()) -> APIRouter:
    """The routes under `/v1`, all of them the engine's."""
    router = APIRouter(prefix="/v1", dependencies=list(dependencies))

    async def hand_on(request: Request) -> Response:
        deployment.gate.check()
        body = await request.body()
        return Handed(deployment, request, body)

    # The common ones by name, so that they can be told apart in the metrics.
    for path in ("/chat/completions", "/completions", "/embeddings"):
        router.add_api_route(path, hand_on, methods=["POST"])
    router.add_api_route("/models", hand_on, methods=["GET"])
    router.add_api_route("/{path:path}", hand_on, methods=["GET", "POST"])
    return router


class Handed(Response):
    """The engine's answer to one request, sent on while it comes."""

    def __init__(self, deployment: Deployment, request: Request, body: bytes) -> None:
        super().__init__()
        self._deployment = deployment
        self._request = request
        self._body = body
        self._usage: Usage = request.state.usage
        self._begun = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer; raises `Refused` if none has begun."""
        try:
            await while_connected(receive, self._work(scope, send))
        except Refused as refused:
            if not self._begun:
                raise
            self._usage.code = refused.status

    async def _work(self, scope: Scope, send: Send) -> None:
        try:
            async with self._deployment.gate.admit() as ticket, self._ask() as answer:
                await self._begin(answer, send)
                async for part in answer.aiter_raw():
                    if not ticket.running:
                        self._deployment.gate.started(ticket)
                    await _send(send, part, more=True)
        except httpx2.TransportError as error:
            await self._give_up(
                Refused(503, "The model's engine failed", retry_after=5), scope, send, error
            )
        except Refused as refused:
            await self._give_up(refused, scope, send, None)
        await _send(send, b"", more=False)

    def _ask(self) -> Any:
        request = self._request
        upstream = self._deployment.model().upstream
        assert upstream is not None, "only an engine with a server of its own has these routes"
        headers = [(name, value) for name, value in request.headers.items() if name not in NOT_SENT]
        target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return upstream.stream(request.method, target, headers=headers, content=self._body)

    async def _begin(self, answer: httpx2.Response, send: Send) -> None:
        self._begun = True
        headers = [
            (name, value)
            for name, value in answer.headers.raw
            if name.decode("latin-1").lower() not in HOP_BY_HOP
        ]
        start = {"status": answer.status_code, "headers": headers}
        await send({"type": "http.response.start", **start})

    async def _give_up(
        self, refused: Refused, scope: Scope, send: Send, cause: Exception | None
    ) -> None:
        """Tell in an event what can no longer be told in the status."""
        if not self._begun:
            raise refused from cause
        self._usage.code = refused.status
        event = json.dumps(content(refused, scope["path"]))
        await _send(send, f"data: {event}\n\n".encode(), more=True)


async def _send(send: Send, body: bytes, *, more: bool) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})
