"""The servers inside the process."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from controlkit import metrics
from controlkit.errors import Rejected
from controlkit.pki import Names, issue
from controlkit.server import health_app, serve
from controlkit_testing import free_port


@asynccontextmanager
async def serving(app: ASGIApp, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    port = free_port()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(serve(app, host="127.0.0.1", port=port, ssl_context=tls))
        await asyncio.sleep(0)  # it listens from its first step on
        yield port
        task.cancel()


async def test_health_is_ok_or_names_the_problems() -> None:
    dead: list[str] = []
    missing = ["the cache of Pod is not filled yet", "there is no certificate yet"]
    async with (
        serving(health_app(lambda: dead, lambda: missing)) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http,
    ):
        live, ready = await http.get("/healthz"), await http.get("/readyz")
        assert (live.status_code, live.text) == (200, "ok")
        assert (ready.status_code, ready.text) == (503, "\n".join(missing))
        missing.clear()
        assert (await http.get("/readyz")).status_code == 200


async def test_metrics_are_served_under_their_stock_names() -> None:
    metrics.RECONCILES.labels("pods", "success").inc()
    metrics.observe_request("GET", "200", "api:443", 0.01)
    async with (
        serving(health_app(list, list)) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http,
    ):
        answer = await http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    for name in (
        'controller_runtime_reconcile_total{controller="pods",result="success"}',
        "workqueue_depth",
        "workqueue_adds_total",
        "leader_election_master_status",
        'rest_client_requests_total{code="200",host="api:443",method="GET"}',
    ):
        assert name in answer.text


async def test_a_request_under_way_is_finished_when_the_server_stops() -> None:
    began = asyncio.Event()

    async def slow(_request: Request) -> Response:
        began.set()
        await asyncio.sleep(0.3)
        return PlainTextResponse("done")

    port = free_port()
    app = Starlette(routes=[Route("/", slow)])
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
        async with asyncio.TaskGroup() as group:
            server = group.create_task(serve(app, host="127.0.0.1", port=port))
            await asyncio.sleep(0)
            asking = group.create_task(http.get("/"))
            await began.wait()
            server.cancel()
        assert asking.result().text == "done"
        with pytest.raises(httpx.ConnectError):
            await http.get("/")
    assert server.cancelled()


async def test_without_a_host_it_listens_on_all_addresses() -> None:
    port = free_port()
    async with asyncio.TaskGroup() as group, httpx.AsyncClient() as http:
        task = group.create_task(serve(health_app(list, list), host="", port=port))
        await asyncio.sleep(0)
        hosts = ["127.0.0.1", "[::1]"] if socket.has_dualstack_ipv6() else ["127.0.0.1"]
        for host in hosts:
            assert (await http.get(f"http://{host}:{port}/healthz")).text == "ok"
        task.cancel()


async def test_a_taken_port_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(Rejected, match=f"cannot listen on 127.0.0.1:{port}"):
            await serve(health_app(list, list), host="127.0.0.1", port=port)


async def test_a_certificate_loaded_later_counts_from_the_next_handshake(tmp_path: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serials = []
    async with serving(health_app(list, list), tls) as port:
        for _ in range(2):
            pair = issue(Names((), ("127.0.0.1",)), datetime.now(UTC))
            (tmp_path / "cert").write_bytes(pair.certificate)
            (tmp_path / "key").write_bytes(pair.key)
            tls.load_cert_chain(tmp_path / "cert", tmp_path / "key")
            trust = ssl.create_default_context(cadata=pair.authorities.decode())
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust)
            serials.append(writer.get_extra_info("peercert")["serialNumber"])
            writer.close()
            await writer.wait_closed()
    assert len(set(serials)) == 2
