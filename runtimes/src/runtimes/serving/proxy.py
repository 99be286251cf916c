"""`/v1` of an engine that speaks OpenAI's interface itself: its own bytes in both directions.

The gate, the deadline, the keys and the counts are ours all the same, and the client's leaving ends the work.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx2
from fastapi import APIRouter, Request, Response
from starlette.types import Send

from runtimes.engines.contract import Refused
from runtimes.serving.deployment import Deployment
from runtimes.serving.streaming import LiveResponse, RawHeaders

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


class Handed(LiveResponse):
    """The engine's answer to one request, sent on while it comes."""

    def __init__(self, deployment: Deployment, request: Request, body: bytes) -> None:
        super().__init__(request.state.usage)
        self._deployment = deployment
        self._request = request
        self._body = body

    async def produce(self, send: Send) -> None:
        """Begin with the engine's own status and headers."""
        gate = self._deployment.gate
        try:
            async with gate.admit() as ticket, self._ask() as answer:
                await self.begin(send, answer.status_code, _headers(answer))
                async for part in answer.aiter_raw():
                    if not ticket.running:
                        gate.started(ticket)
                    await self.part(send, part)
        except httpx2.TransportError as error:
            raise Refused(503, "The model's engine failed", retry_after=5) from error

    def _ask(self) -> AbstractAsyncContextManager[httpx2.Response]:
        request = self._request
        upstream = self._deployment.model().upstream
        assert upstream is not None, "only an engine with a server of its own has these routes"
        headers = [(name, value) for name, value in request.headers.items() if name not in NOT_SENT]
        target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return upstream.stream(request.method, target, headers=headers, content=self._body)


def _headers(answer: httpx2.Response) -> RawHeaders:
    """The engine's, without those of its own connection."""
    return [
        (name, value)
        for name, value in answer.headers.raw
        if name.decode("latin-1").lower() not in HOP_BY_HOP
    ]
