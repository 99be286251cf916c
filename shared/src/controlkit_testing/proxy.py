"""A TCP proxy that breaks connections the way networks do.

Invariant: it changes no byte; it only stops passing them on, or hangs up.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Self
from urllib.parse import urlsplit


class CutProxy:
    """Stands between a client and a server.

    Attributes:
        url: what the client calls in place of the server.
        connections: how many it has accepted so far.
    """

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._host, self._port = parts.hostname or "", parts.port or 443
        self._scheme = parts.scheme
        self._open: set[asyncio.StreamWriter] = set()
        self._left: int | None = None
        self._passing = asyncio.Event()
        self._passing.set()
        self.url = ""
        self.connections = 0

    @classmethod
    @asynccontextmanager
    async def to(cls, target: str) -> AsyncIterator[Self]:
        """Runs a proxy in front of a URL's host and port."""
        proxy = cls(target)
        server = await asyncio.start_server(proxy._serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        proxy.url = f"{proxy._scheme}://127.0.0.1:{port}"
        try:
            yield proxy
        finally:
            server.close()
            proxy._passing.set()
            proxy.cut()
            await server.wait_closed()

    def cut(self) -> None:
        """Hangs up on everybody at once."""
        for writer in self._open:
            writer.transport.abort()

    def cut_after(self, answered: int) -> None:
        """Hangs up on everybody once that many more bytes of answers have passed."""
        self._left = answered

    def silence(self) -> None:
        """Keeps connections open and passes nothing on any more."""
        self._passing.clear()

    def resume(self) -> None:
        """Ends a silence."""
        self._passing.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, far_writer}
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass_on(reader, far_writer, answer=False))
                group.create_task(self._pass_on(far_reader, writer, answer=True))
        finally:
            self._open -= {writer, far_writer}
            for each in (writer, far_writer):
                each.transport.abort()

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answer: bool
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                await self._passing.wait()
                if answer and self._left is not None:
                    data = data[: self._left]
                    self._left -= len(data)
                writer.write(data)
                await writer.drain()
                if self._left == 0:
                    self._left = None
                    self.cut()
        writer.transport.abort()
