"""Errors of Azure: what a claim says of them, and what is asked again and when."""

import asyncio
from datetime import datetime
from typing import Final

from conformance.behaviours.creation import ERROR_REASONS
from conformance.history import told
from conformance.suite import behaviour
from conformance.trial import Trial, require

GROUP: Final = "Errors"
LEGACY: Final = "all requested instance types were unavailable during launch"
"""By this sentence an old workspace controller knows that it need not wait."""
THROTTLE_SECONDS: Final = 6


@behaviour(
    "21", GROUP, "A full quota is told with Azure's words and not asked again soon", aks=True
)
async def quota(trial: Trial) -> str:
    """Lets the quota be full for one pool."""
    name = trial.name()
    await trial.control.inject("error", error="quota-family", pool=name, count=None)
    await trial.create(name)
    said = await trial.says(name, "QuotaExceeded")
    require("Insufficient vcpu quota requested 6" in said.message, f"the text is {said.message}")
    await asyncio.sleep(8)
    asked = await trial.asked(name)
    require(asked == [400], f"AKS was asked {len(asked)} times within 8 s")
    return f"Launched {said.status} QuotaExceeded, {len(said.message)} characters; 1 PUT in 8 s"


@behaviour(
    "22", GROUP, "A size that is not offered is told for good, and not asked again", aks=True
)
async def size(trial: Trial) -> str:
    """Lets AKS refuse the size."""
    name = trial.name()
    await trial.control.inject("error", error="size-restricted", pool=name, count=None)
    await trial.create(name)
    await trial.becomes(name, "Launched", "False")
    said = await trial.says(name, "InstanceTypeUnavailable")
    require(LEGACY in said.message, f"the old sentence is missing: {said.message}")
    require("is not allowed in your subscription" in said.message, f"the text is {said.message}")
    await asyncio.sleep(4)
    asked = await trial.asked(name)
    require(asked == [400], f"AKS was asked {len(asked)} times")
    return "Launched False InstanceTypeUnavailable, both sentences; 1 PUT"


@behaviour(
    "23", GROUP, "A throttle holds every claim back for as long as it says", aks=True, alone=True
)
async def throttle(trial: Trial) -> str:
    """Throttles one claim and makes another."""
    first, second = trial.name(), trial.name()
    await trial.control.inject("error", error="throttled", pool=first, retry_after=THROTTLE_SECONDS)
    await trial.create(first)

    async def throttled() -> bool:
        return 429 in await trial.asked(first)

    await trial.until(throttled, "the PUT is throttled")
    await trial.create(second)
    await trial.becomes(first)
    await trial.becomes(second)
    calls = await trial.control.calls("PUT", pool="cf*")
    ours = [call for call in calls if call["pool"] in (first, second)]
    require([call["status"] for call in ours].count(429) == 1, "AKS had to refuse more than once")
    waited = min(_seconds(call["time"]) for call in ours[1:]) - _seconds(ours[0]["time"])
    require(waited >= THROTTLE_SECONDS - 0.2, f"the next PUT came after {waited:.1f} s")
    return f"Retry-After {THROTTLE_SECONDS}: the next PUT of any claim after {waited:.1f} s"


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@behaviour("24", GROUP, "An operation in progress is no error, and is waited out", aks=True)
async def in_progress(trial: Trial) -> str:
    """Lets AKS say so twice."""
    name = trial.name()
    await trial.control.inject("error", error="in-progress", pool=name, count=2)
    await trial.create(name)
    await trial.becomes(name, seconds=60)
    reasons = {told(state, "Launched").reason for state in trial.states(name)} - {""}
    errors = reasons & ERROR_REASONS
    require(not errors, f"it said {errors}")
    return (
        f"answers to PUT: {await trial.asked(name)}; Ready; reasons on the way: {sorted(reasons)}"
    )


@behaviour("25", GROUP, "Refused credentials lose no claim", aks=True, alone=True)
async def credentials(trial: Trial) -> str:
    """Makes every token invalid, and refuses new ones for a while."""
    settled = await trial.create()
    await trial.becomes(settled)
    await trial.control.inject("error", verb="TOKEN", error="aad-federation", count=None)
    await trial.control.revoke_tokens()
    name = await trial.create()
    said = await trial.says(name, "AuthorizationFailed")
    await asyncio.sleep(2)
    require(await trial.claim(settled) is not None, "a settled claim was lost")
    require((await trial.condition(settled, "Ready")).status == "True", "a settled claim fell")
    await trial.control.clear_faults()
    await trial.becomes(name, seconds=120)
    return f"Launched {said.status} AuthorizationFailed, then Ready; the settled claim stood"


@behaviour("26", GROUP, "A cluster that is not found deletes nothing", aks=True, alone=True)
async def no_cluster(trial: Trial) -> str:
    """Answers everything with 404 of the cluster, for longer than two collections."""
    name = await trial.create()
    await trial.becomes(name)
    await trial.control.inject("error", verb="*", error="cluster-not-found", count=None)
    await asyncio.sleep(15)
    claim = await trial.claim(name)
    await trial.control.clear_faults()
    require(claim is not None and not claim.deleting, "the claim was deleted")
    require(len(await trial.nodes(name)) == 1, "the Node was deleted")
    require(await trial.machines(name) == 1, "the pool was deleted")
    return "claim, Node and pool stood through 15 s of 404"


@behaviour("37", GROUP, "A pool that fails is told and not left: made again, or deleted", aks=True)
async def failed_pool(trial: Trial) -> str:
    """Lets one pool fail for a passing cause, and one for want of machines."""
    passing, lasting = trial.name(), trial.name()
    await trial.control.inject("fail", error="internal-late", pool=passing, seconds=5)
    await trial.control.inject(
        "fail", error="capacity-regional", pool=lasting, seconds=5, count=None
    )
    await trial.create(passing)
    await trial.create(lasting)
    await trial.becomes(passing, seconds=90)
    said = await trial.says(lasting, "InsufficientCapacity")

    async def not_left() -> bool:
        return lasting not in await trial.control.pools()

    await trial.until(not_left, "the pool that failed for want of machines is gone")
    made = await trial.asked(passing)
    return f"passing cause: {made}, Ready; no machines: {said.reason}, pool deleted"
