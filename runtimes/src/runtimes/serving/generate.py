"""Run one generation from its place in the line to its last token, for every route alike.

The gate's deadline, the counters and the engine's clean-up are here, so no route can forget one of them.
"""

from collections.abc import Awaitable, Callable
from contextlib import aclosing

from runtimes.engines.contract import Delta, Finished, Generation, Refused, Started
from runtimes.serving.deployment import Deployment
from runtimes.serving.meter import Meter
from runtimes.serving.observe import Usage

Follower = Callable[[Started | Delta], Awaitable[None]]


async def generate(
    deployment: Deployment, generation: Generation, usage: Usage, follow: Follower | None = None
) -> Finished:
    """The finished answer; `follow` is awaited with every step before it.

    Raises `Refused`, also in the middle of an answer that `follow` has begun to hand on.
    """
    engine = deployment.model()
    meter = Meter(deployment.metrics, usage)
    async with deployment.gate.admit() as ticket, aclosing(engine.generate(generation)) as events:
        async for event in events:
            meter.see(event)
            if isinstance(event, Finished):
                return event
            if isinstance(event, Started):
                deployment.gate.started(ticket)
            if follow is not None:
                await follow(event)
    raise Refused(500, "The engine ended without an answer")
