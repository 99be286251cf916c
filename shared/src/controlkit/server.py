"""HTTP servers inside the process: health and metrics, and webhooks.

Invariant: a server lives and ends with the task that runs it; it never takes the process's
signals, and a port that is taken is an error that says so.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from controlkit.errors import Rejected

DRAIN_SECONDS = 3
KEEP_ALIVE_SECONDS = 120  # the API server hangs up idle connections at 90; it must be the first


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals to the manager: uvicorn would take SIGTERM away from it."""
        yield


async def serve(
    app: ASGIApp, *, host: str, port: int, ssl_context: ssl.SSLContext | None = None
) -> None:
    """Serves until cancelled, then lets requests under way finish within 3 s.

    Args:
        app: an ASGI application; it gets no lifespan events.
        host: address to listen on; "" for all, of IPv4 and IPv6.
        port: TCP port.
        ssl_context: for HTTPS; certificates loaded into it later count from the next handshake.

    Raises:
        Rejected: the address cannot be had.
    """
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        ssl_context_factory=(lambda _config, _default: ssl_context) if ssl_context else None,
    )
    server = _Server(config)
    listener = _listen(host, port)
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(server.serve(sockets=[listener]), name=f"server on {port}")
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            server.should_exit = True
            await serving
            raise


def _listen(host: str, port: int) -> socket.socket:
    both = not host and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both or ":" in host else socket.AF_INET
    try:
        listener = socket.create_server(
            (host, port), family=family, backlog=1024, dualstack_ipv6=both
        )
    except OSError as error:
        where = f"{host or '*'}:{port}"
        raise Rejected("CannotListen", f"cannot listen on {where}: {error}") from error
    # asyncio turns Nagle off only for sockets that it makes itself; connections inherit this one's
    # setting. With Nagle on, every second write waits 40 ms for the peer's acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def health_app(live: Callable[[], list[str]], ready: Callable[[], list[str]]) -> Starlette:
    """Answers `/healthz` and `/readyz` (200, or 503 with the problems) and `/metrics`.

    Args:
        live: what is wrong so that only a restart helps; empty when nothing is.
        ready: what is missing before the process can do its work; empty when nothing is.
    """

    def metrics(_request: Request) -> Response:
        return Response(generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    def probe(problems: Callable[[], list[str]]) -> Callable[[Request], Response]:
        def answer(_request: Request) -> Response:
            found = problems()
            return PlainTextResponse("\n".join(found) or "ok", 503 if found else 200)

        return answer

    return Starlette(
        routes=[
            Route("/healthz", probe(live)),
            Route("/readyz", probe(ready)),
            Route("/metrics", metrics),
        ]
    )
