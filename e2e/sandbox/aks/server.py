"""The https server: uvicorn inside our own process, able to drop a connection without an answer.

Invariant: signals stay the program's own, and leaving the context closes the socket within
`SHUTDOWN_SECONDS`, open connections included.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from sandbox.aks.responses import ABORT_KEY
from sandbox.aks.tasks import Tasks

SHUTDOWN_SECONDS: Final = 2


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()
        self.stopping = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    async def main_loop(self) -> None:
        while not self.stopping.is_set():
            await self.on_tick(0)  # renews the Date header
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self.stopping.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _AbortableProtocol(H11Protocol):
    """Tells the application how to drop the connection of its request."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, ABORT_KEY: transport.abort}


def bound_socket(host: str, port: int) -> socket.socket:
    """Binds and returns a socket; port 0 takes a free one.

    Raises:
        OSError: the address is in use or not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named, because asyncio sends without delay only on sockets that say they are TCP.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise OSError(f"--host {host} --port {port}: {error.strerror}") from error
    return listener


@contextlib.asynccontextmanager
async def serving(
    app: ASGIApp, listener: socket.socket, *, certificate: Path, key: Path
) -> AsyncIterator[None]:
    """Serves `app` on the socket for as long as the context lasts."""
    config = uvicorn.Config(
        app,
        http=_AbortableProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        ssl_certfile=certificate,
        ssl_keyfile=key,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        backlog=2048,
        # Longer than clients keep an idle connection: else a call may meet one that just closed.
        timeout_keep_alive=90,
    )
    server = _Server(config)
    async with Tasks() as tasks:
        running = tasks.start(server.serve(sockets=[listener]), "https server")
        await server.listening.wait()
        try:
            yield
        finally:
            server.stopping.set()
            await asyncio.wait({running})
