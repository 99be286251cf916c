"""Work for a client ends when the client leaves."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

from runtimes.engines.contract import Refused

Result = TypeVar("Result")


async def while_connected(receive: Receive, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of `work`, which is cancelled if the client hangs up first.

    `receive` must have given the whole body already. Raises `Refused`, with status 499 if the client left.
    """

    async def outcome() -> Result | Refused:
        try:
            return await work
        except Refused as refused:
            return refused  # a value, because a task group would wrap it

    async def hang_up() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        task.cancel()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(outcome())
        watch = group.create_task(hang_up())
        await asyncio.wait([task])
        watch.cancel()
    if task.cancelled():
        raise Refused(499, "The client left")
    result = task.result()
    if isinstance(result, Refused):
        raise result
    return result
