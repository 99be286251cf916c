"""Real servers for tests: on a real port, in a thread with its own event loop."""

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import ASGIApp

from runtimes.serving.engine_choice import EngineMaker
from runtimes.serving.server import Server, listen
from runtimes.serving.settings import Settings


@dataclass
class Running:
    """A server that a test talks to."""

    url: str
    server: Server
    loop: asyncio.AbstractEventLoop
    client: httpx.Client

    def chat(self, **body: Any) -> httpx.Response:
        return self.client.post("/chat", json=body)

    def result(self, **body: Any) -> str:
        answer = self.chat(**body)
        assert answer.status_code == 200, answer.text
        assert list(answer.json()) == ["Result"]
        return str(answer.json()["Result"])

    def metric(self, name: str, /, **labels: str) -> float:
        """The sum of a metric's samples that carry these labels."""
        families = text_string_to_metric_families(self.client.get("/metrics").text)
        samples = [sample for family in families for sample in family.samples]
        return sum(
            sample.value
            for sample in samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def wait_ready(self, seconds: float = 60) -> None:
        wait_until(lambda: self.client.get("/ready").status_code == 200, seconds)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.server.stop)


@contextmanager
def running(make_engine: EngineMaker, **settings: Any) -> Iterator[Running]:
    """A server that has its port; its model may still be loading.

    What ended it before its time is raised at the end.
    """
    chosen = Settings(host="127.0.0.1", port=0, **settings)
    begun: Future[Running] = Future()

    async def serve() -> None:
        with listen(chosen) as listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            server = Server(chosen, make_engine)
            with httpx.Client(base_url=url, timeout=60) as client:
                begun.set_result(Running(url, server, asyncio.get_running_loop(), client))
                await server.run(listener)

    with ThreadPoolExecutor(1, "server") as thread:
        ended = thread.submit(asyncio.run, serve())
        server = begun.result(10)
        try:
            yield server
        finally:
            if not ended.done():
                server.stop()
        ended.result(20)


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


@contextmanager
def serving_asgi(app: ASGIApp) -> Iterator[str]:
    """Any ASGI application on a real port; yields its address."""
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off")
    http = uvicorn.Server(config)
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        ThreadPoolExecutor(1, "asgi") as thread,
    ):
        ended = thread.submit(asyncio.run, http.serve([listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            http.should_exit = True
        ended.result(20)
