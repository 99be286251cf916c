"""Timeouts: what is given up, and what never is."""

import asyncio
from typing import Final

from conformance.suite import behaviour
from conformance.trial import Trial, require

GROUP: Final = "Timeouts"


@behaviour(
    "27", GROUP, "A machine that never joins is given up after the registration timeout", alone=True
)
async def never_joins(trial: Trial) -> str:
    """Sets the timeout to 5 s and lets no Node join."""
    await trial.world.restart({"registration-timeout": "5s"})
    name = trial.name()
    await trial.control.inject("never-join", pool=name, count=None)
    clock = asyncio.get_running_loop()
    began = clock.time()
    await trial.create(name)

    async def given_up() -> bool:
        claim = await trial.claim(name)
        return claim is None or claim.deleting

    await trial.until(given_up, "the claim is given up", 30)
    after = clock.time() - began
    # Moments are kept in whole seconds.
    require(after >= 3.5, f"it was given up after {after:.1f} s already")
    await trial.is_gone(name)
    await trial.world.restart()
    return f"set to 5 s: claim deleted after {after:.1f} s, pool gone"


@behaviour(
    "28", GROUP, "The launch timeout counts from the request, not from the claim", alone=True
)
async def launch_timeout(trial: Trial) -> str:
    """Lets a claim become older than the timeout before anybody serves it."""
    await trial.world.stop()
    name = await trial.create()
    await asyncio.sleep(6)
    await trial.world.start({"launch-timeout": "5s", "registration-timeout": "5s"})
    await trial.becomes(name)
    await trial.world.restart()
    return "timeout 5 s, claim 6 s old when first served: Ready"


@behaviour("43", GROUP, "A claim that is never to expire does not", kinds=("nodeclaim",))
async def never_expires(trial: Trial) -> str:
    """Says Never, and nothing; the schema then says 720 h."""
    never, unsaid = await trial.create(expireAfter="Never"), await trial.create()
    await trial.becomes(never)
    await trial.becomes(unsaid)

    async def there() -> bool:
        claims = [await trial.claim(name) for name in (never, unsaid)]
        return all(claim is not None and not claim.deleting for claim in claims)

    await trial.stays(there, "both claims are there", 5)
    return "Never and unsaid (720 h by the schema) stood; 720 h were not waited for"
