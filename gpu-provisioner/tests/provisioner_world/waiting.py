"""Waiting in tests for what must happen."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

T = TypeVar("T")


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


async def eventually(
    look: Callable[[], Awaitable[T | None]],
    what: str | Callable[[], Awaitable[str]],
    seconds: float = 20.0,
) -> T:
    """What `look` returns once that is true; fails with `what` when it takes too long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = await look()
        if found:
            return found
        await asyncio.sleep(0.05)
    pytest.fail(f"not within {seconds:g} s: {what if isinstance(what, str) else await what()}")
