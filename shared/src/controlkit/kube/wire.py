"""What the client asks of whatever carries its calls.

Invariant: a carrier answers with bytes within the deadline, or raises a `ControlError`.
"""

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from aiohttp.http_exceptions import LineTooLong

from controlkit.errors import Transient
from controlkit.kube.errors import mapped


class ByteStream(Protocol):
    """An answer that is still being written."""

    async def readline(self) -> bytes:
        """Up to and with the next line end; less at the end of the answer."""
        ...


class Lines:
    """The lines of an answer that is still being written."""

    def __init__(self, call: str, content: ByteStream) -> None:
        self._call = call
        self._content = content

    async def next(self, idle: float) -> bytes:
        """The next whole line; empty at the answer's regular end.

        Args:
            idle: seconds of silence after which the connection counts as dead.

        Raises:
            Transient: silence, a broken connection, or half a line before the end.
        """
        with mapped(self._call, idle):
            try:
                async with asyncio.timeout(idle):
                    line = await self._content.readline()
            except TimeoutError as error:
                raise Transient("Silent", f"{self._call} sent nothing for {idle:g} s") from error
            except (LineTooLong, ValueError) as error:  # the reader's buffer holds 4 MiB
                raise Transient("LineTooLong", f"{self._call} sent a line over 4 MiB") from error
        if line and not line.endswith(b"\n"):
            raise Transient("WatchCut", f"{self._call} broke off inside a line")
        return line

    async def whole(self, most: int, seconds: float) -> bytes:
        """The whole answer, of somebody who may send anything and for ever.

        Args:
            most: bytes that it may have.
            seconds: until its end.

        Raises:
            Transient: it is longer, late, or cut off.
        """
        answer = b""
        with mapped(self._call, seconds):
            try:
                async with asyncio.timeout(seconds):
                    while len(answer) <= most and (part := await self._content.readline()):
                        answer += part
            except (LineTooLong, ValueError):  # the reader's buffer holds 4 MiB
                answer = b" " * (most + 1)
        if len(answer) > most:
            raise Transient("AnswerTooLong", f"{self._call} answered more than {most} bytes")
        return answer


class Wire(Protocol):
    """Carries calls to one API server."""

    async def request(
        self,
        verb: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        timeout: float = 30.0,
    ) -> bytes:
        """One call, its whole answer."""
        ...

    def stream(
        self, path: str, *, query: Mapping[str, str], timeout: float
    ) -> AbstractAsyncContextManager[Lines]:
        """A GET whose answer is read line by line, as it comes."""
        ...

    async def close(self) -> None:
        """Ends every call."""
        ...
