"""Waits for what no event tells, and finds ports that nobody listens on.

Invariant: it ends, with what was waited for or an error that says what that was.
"""

import asyncio
import inspect
import socket
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")
What = str | Callable[[], str | Awaitable[str]]


@overload
async def eventually(
    look: Callable[[], Awaitable[T | None]], what: What = ..., seconds: float = ...
) -> T: ...
@overload
async def eventually(look: Callable[[], T | None], what: What = ..., seconds: float = ...) -> T: ...
async def eventually(look: Callable[[], Any], what: What = "", seconds: float = 20.0) -> Any:
    """What `look` returns, once that is true.

    Args:
        look: asked again and again; may be asynchronous.
        what: what is waited for, or how to learn what there is instead; the condition's own text
            if left out.
        seconds: how long to ask.

    Raises:
        TimeoutError: it did not come true in time.
    """
    try:
        async with asyncio.timeout(seconds):
            while not (found := await _now(look)):  # noqa: ASYNC110  (the state is told by no event)
                await asyncio.sleep(0.03)
    except TimeoutError:
        told = what if isinstance(what, str) else await _now(what)
        missing = told or inspect.getsource(look).strip()
        raise TimeoutError(f"not within {seconds:g} s: {missing}") from None
    return found


async def _now(ask: Callable[[], Any]) -> Any:
    answer = ask()
    return await answer if inspect.isawaitable(answer) else answer


def free_port() -> int:
    """A TCP port of this host that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
