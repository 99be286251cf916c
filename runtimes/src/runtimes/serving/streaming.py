"""Answers that are sent while they are made, most of them as server-sent events.

Nothing is sent before the first part, so a request that is refused until then gets its proper status; what
goes wrong later is told in an event of its own, because the status is gone by then.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from runtimes.engines.contract import Refused
from runtimes.serving.connection import while_connected
from runtimes.serving.observe import Usage
from runtimes.serving.refusals import content

DONE = "[DONE]"

Write = Callable[[Mapping[str, Any] | str], Awaitable[None]]
Produce = Callable[[Write], Awaitable[None]]
RawHeaders = list[tuple[bytes, bytes]]


class LiveResponse(Response, ABC):
    """A response that is sent while it is made, in one task with what makes it.

    The client's leaving ends the work. Subclasses say in `produce` what is sent; `Refused` may come out of it
    at any time.
    """

    def __init__(self, usage: Usage) -> None:
        super().__init__()
        self._usage = usage
        self._begun = False

    @abstractmethod
    async def produce(self, send: Send) -> None:
        """Send one `begin` and any number of `part`s."""

    async def begin(self, send: Send, status: int, headers: RawHeaders) -> None:
        """Send the status and the headers."""
        self._begun = True
        await send({"type": "http.response.start", "status": status, "headers": headers})

    async def part(self, send: Send, body: bytes, *, last: bool = False) -> None:
        """Send the next bytes."""
        await send({"type": "http.response.body", "body": body, "more_body": not last})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all of it; raises `Refused` if nothing has been sent yet."""
        try:
            await while_connected(receive, self._all(scope, send))
        except Refused as refused:
            if not self._begun:
                raise
            self._usage.code = refused.status

    async def _all(self, scope: Scope, send: Send) -> None:
        try:
            await self.produce(send)
        except Refused as refused:
            if not self._begun:
                raise
            self._usage.code = refused.status
            await self.part(send, event(content(refused, scope["path"])))
        await self.part(send, b"", last=True)


class EventStream(LiveResponse):
    """Server-sent events, which `write` is given one by one."""

    media_type = "text/event-stream"

    def __init__(self, produce: Produce, usage: Usage) -> None:
        super().__init__(usage)
        # No proxy on the way may wait for more before it hands an event on.
        self.headers.update({"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._produce = produce

    async def produce(self, send: Send) -> None:
        """Begin with the first event."""

        async def write(content: Mapping[str, Any] | str) -> None:
            if not self._begun:
                await self.begin(send, self.status_code, self.raw_headers)
            await self.part(send, event(content))

        await self._produce(write)


def event(content: Mapping[str, Any] | str) -> bytes:
    """One server-sent event."""
    data = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    return f"data: {data}\n\n".encode()
