"""Answers that are none: a dropped connection, and silence.

Invariant: both end when the client goes or the server stops; neither holds a task for ever.
"""

from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

ABORT_KEY: Final = "abort_connection"
"""Where the server puts the function that drops the request's connection, in `scope["state"]`."""


class Cut(Response):
    """Drops the TCP connection without a byte of an answer."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Aborts, and waits until the server has noticed."""
        del send
        scope["state"][ABORT_KEY]()
        await _until_disconnected(receive)


class Hang(Response):
    """Never answers."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Waits until the client goes."""
        del scope, send
        await _until_disconnected(receive)


async def _until_disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
