"""Waits for what no event tells.

Invariant: it ends, with what was waited for or an error that shows the condition's text.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable


async def eventually(holds: Callable[[], bool | Awaitable[bool]], seconds: float = 20.0) -> None:
    """Returns once the condition holds.

    Args:
        holds: asked again and again; may be asynchronous.
        seconds: how long to ask.

    Raises:
        TimeoutError: it did not hold in time.
    """
    try:
        async with asyncio.timeout(seconds):
            while not await _now(holds):  # noqa: ASYNC110  (the state is told by no event)
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise TimeoutError(
            f"not within {seconds:g} s: {inspect.getsource(holds).strip()}"
        ) from None


async def _now(holds: Callable[[], bool | Awaitable[bool]]) -> bool:
    answer = holds()
    return answer if isinstance(answer, bool) else await answer
