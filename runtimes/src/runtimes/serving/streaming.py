"""Answers that are sent while they are made, as server-sent events.

Nothing is sent before the first event, so a request that is refused until then gets its proper status; what
goes wrong later is told in an event of its own, because the status is gone by then.
"""

import json
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


class EventStream(Response):
    """A response whose `produce` writes one event after the other; the client's leaving ends it."""

    media_type = "text/event-stream"

    def __init__(self, produce: Produce, usage: Usage) -> None:
        # No proxy on the way may wait for more before it hands an event on.
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._produce = produce
        self._usage = usage
        self._begun = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events; raises `Refused` if there was none yet."""
        try:
            await while_connected(receive, self._work(scope, send))
        except Refused as refused:
            if not self._begun:
                raise
            self._usage.code = refused.status

    async def _work(self, scope: Scope, send: Send) -> None:
        async def write(event: Mapping[str, Any] | str) -> None:
            if not self._begun:
                self._begun = True
                head = {"status": self.status_code, "headers": self.raw_headers}
                await send({"type": "http.response.start", **head})
            body = _event(event)
            await send({"type": "http.response.body", "body": body, "more_body": True})

        try:
            await self._produce(write)
        except Refused as refused:
            if not self._begun:
                raise
            self._usage.code = refused.status
            await write(content(refused, scope["path"]))
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _event(event: Mapping[str, Any] | str) -> bytes:
    data = event if isinstance(event, str) else json.dumps(event, ensure_ascii=False)
    return f"data: {data}\n\n".encode()
