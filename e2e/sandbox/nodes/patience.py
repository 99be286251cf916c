"""Repeats a call to a cluster, or to a program, that fails for now.

Invariant: it ends when the call succeeds, when the call says that it never will, or when it is
cancelled; the pauses grow, so that what is down is not hammered.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import httpx
import structlog

from controlkit.clock import Clock
from controlkit.errors import ControlError
from sandbox.nodes.driver import NodeBootError

log = structlog.get_logger(__name__)

FIRST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 10.0
DEADLINE: Final = 300.0
"""Seconds for one attempt."""
FAILURES: Final = (ControlError, RuntimeError, OSError, TimeoutError, httpx.HTTPError)


async def until_done(clock: Clock, what: str, call: Callable[[], Awaitable[None]]) -> None:
    """Repeats `call` until it succeeds; `what` names it in the log.

    Raises:
        NodeBootError: the call says that repeating it is no use.
    """
    pause = FIRST_PAUSE
    while True:
        try:
            async with asyncio.timeout(DEADLINE):
                await call()
        except NodeBootError:
            raise
        except FAILURES as error:
            log.warning("failed, tried again", what=what, why=str(error), seconds=pause)
        else:
            return
        await clock.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)
