"""`/v1` of an engine with a server of its own: what goes through, what does not, and how it ends."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fake_engine import FakeEngine, Script
from harness import Running, running, serving_asgi, wait_until
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from runtimes.engines.options import EngineOptions

ODD = b'{"id":  "odd spacing",\n"n":1}'


@dataclass
class Upstream:
    """The engine's own server, and what reached it."""

    seen: list[Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    left: int = 0
    breaks_off: bool = False

    async def answer(self, request: Request) -> Response:
        self.seen.append(request)
        self.bodies.append(await request.body())
        if b'"stream"' in self.bodies[-1]:
            return StreamingResponse(self._events(), media_type="text/event-stream")
        if request.url.path.endswith("/refused"):
            return JSONResponse({"error": {"message": "no"}}, 418, {"x-engine": "yes"})
        return Response(ODD, media_type="application/json", headers={"x-engine": "yes"})

    async def _events(self) -> AsyncIterator[bytes]:
        yield b"data: one\n\n"
        if self.breaks_off:
            raise RuntimeError("the engine fails in the middle")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.left += 1
            raise


class WithServer(FakeEngine):
    """A fake engine whose OpenAI interface is its own server's."""

    def __init__(self, options: EngineOptions, url: str) -> None:
        super().__init__(options, Script())
        self.asks = httpx2.AsyncClient(base_url=url, timeout=httpx2.Timeout(5, read=None))
        self.upstream = self.asks

    async def close(self) -> None:
        await self.asks.aclose()


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture
def address(upstream: Upstream) -> Iterator[str]:
    app = Starlette(routes=[Route("/{path:path}", upstream.answer, methods=["GET", "POST"])])
    with serving_asgi(app) as url:
        yield url


@pytest.fixture
def server(address: str, tmp_path: Path) -> Iterator[Running]:
    with running(
        lambda options: WithServer(options, address),
        pretrained_model_name_or_path=str(tmp_path),
        engine="vllm",
        request_timeout=2,
    ) as server:
        server.wait_ready()
        yield server


def test_bytes_status_and_headers_go_through_both_ways(server: Running, upstream: Upstream) -> None:
    sent = b'{"model":  "a"}'
    answer = server.client.post(
        "/v1/completions?a=b",
        content=sent,
        headers={"Authorization": "Bearer s3cret", "x-mine": "1"},
    )
    assert (answer.status_code, answer.content) == (200, ODD)
    assert answer.headers["x-engine"] == "yes"
    assert upstream.bodies == [sent]
    (request,) = upstream.seen
    assert (request.url.path, request.url.query) == ("/v1/completions", "a=b")
    assert request.headers["x-mine"] == "1"
    assert "authorization" not in request.headers
    refused = server.client.get("/v1/refused")
    assert (refused.status_code, refused.json()["error"]["message"]) == (418, "no")
    assert server.metric("kaito_requests_total", route="/v1/completions", code="200") == 1
    assert server.metric("kaito_requests_running") == 0


def test_a_client_that_leaves_ends_the_engines_work(server: Running, upstream: Upstream) -> None:
    with server.client.stream("POST", "/v1/completions", json={"stream": True}) as answer:
        lines = answer.iter_lines()
        assert next(lines) == "data: one"
    wait_until(lambda: upstream.left == 1)
    counted = {"route": "/v1/completions", "code": "499"}
    wait_until(lambda: server.metric("kaito_requests_total", **counted) == 1)


def events(server: Running) -> list[Any]:
    with server.client.stream("POST", "/v1/completions", json={"stream": True}) as answer:
        assert answer.status_code == 200
        return [line.removeprefix("data: ") for line in answer.iter_lines() if line]


def test_a_late_answer_says_so_in_its_last_event(server: Running, upstream: Upstream) -> None:
    one, last = events(server)
    assert (one, json.loads(last)["error"]["code"]) == ("one", "timeout")
    wait_until(lambda: upstream.left == 1)


def test_an_answer_that_breaks_off_says_so_in_its_last_event(
    server: Running, upstream: Upstream
) -> None:
    upstream.breaks_off = True
    one, last = events(server)
    assert one == "one"
    assert json.loads(last)["error"]["message"] == "The model's engine failed"
    counted = {"route": "/v1/completions", "code": "503"}
    wait_until(lambda: server.metric("kaito_requests_total", **counted) == 1)


def test_an_engine_that_is_gone_is_a_503(tmp_path: Path) -> None:
    with running(
        lambda options: WithServer(options, "http://127.0.0.1:9"),
        pretrained_model_name_or_path=str(tmp_path),
        engine="vllm",
    ) as server:
        server.wait_ready()
        answer = server.client.get("/v1/models")
    assert answer.status_code == 503
    assert answer.json()["error"]["type"] == "server_error"
