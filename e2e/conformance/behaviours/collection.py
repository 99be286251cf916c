"""Garbage collection and repair: what is cleared away by itself, and what never is."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from azure.mgmt.containerservice.models import AgentPool

from conformance.suite import behaviour
from conformance.trial import OWNER, SIZE, Trial
from gpuapis import labels

GROUP: Final = "Garbage collection and repair"
WATCHED_SECONDS: Final = 15.0


@behaviour("34", GROUP, "A claim whose pool was deleted behind its back goes", aks=True)
async def vanished(trial: Trial) -> str:
    """Takes the pool away, VM and all."""
    name = await trial.create()
    await trial.becomes(name)
    await trial.control.remove_pool(name)

    async def gone() -> bool:
        return await trial.claim(name) is None

    await trial.until(gone, "the claim is gone", 90)
    return "claim and Node are gone"


@behaviour("35", GROUP, "A pool of ours without a claim is deleted, but not a young one", aks=True)
async def leaked(trial: Trial) -> str:
    """Makes two pools with our marks, one of which says that it is old."""
    old, young = trial.name(), trial.name()
    now = datetime.now(UTC)
    await _pool(trial, old, _marks(now - timedelta(minutes=5)))
    await _pool(trial, young, _marks(now))

    async def deleted() -> bool:
        return old not in await trial.control.pools()

    async def kept() -> bool:
        return young in await trial.control.pools()

    left = 25 - (datetime.now(UTC) - now).total_seconds()
    await trial.stays(kept, "the young one is there", left)
    await trial.until(deleted, "the old one is deleted", 120)
    if await kept():
        await trial.control.remove_pool(young)
    return "the old one deleted; the young one stood while it was younger than 25 s"


@behaviour("36", GROUP, "A pool that is not ours, or a system pool, is never deleted", aks=True)
async def foreign_pools(trial: Trial) -> str:
    """Makes a pool without marks, and a system pool that carries them."""
    theirs, system = trial.name(), trial.name()
    marks = _marks(datetime.now(UTC) - timedelta(minutes=5))
    await _pool(trial, theirs, {"team": "other"})
    await _pool(trial, system, marks, mode="System", vmSize="Standard_D4s_v3")

    async def there() -> bool:
        return {theirs, system} <= set(await trial.control.pools()) | await _system(trial)

    await trial.stays(there, "both pools are there", WATCHED_SECONDS)
    for name in (theirs, system):
        await trial.control.remove_pool(name)
    return f"both stood for {WATCHED_SECONDS:g} s"


@behaviour("39", GROUP, "A Node that stays NotReady is replaced", alone=True)
async def repair(trial: Trial) -> str:
    """Would make a Node NotReady for as long as is tolerated."""
    await trial.world.restart({"repair-after": "3s"})
    name = await trial.create()
    await trial.becomes(name)
    await trial.set_ready(await trial.node(name), "False")

    async def given_up() -> bool:
        claim = await trial.claim(name)
        return claim is None or claim.deleting

    await trial.until(given_up, "the claim is given up", 60)
    await trial.is_gone(name)
    await trial.world.restart()
    return "set to 3 s: claim deleted, its owner makes another"


def _marks(made: datetime) -> dict[str, str]:
    return {
        **OWNER,
        labels.NODEPOOL: "kaito",
        labels.CREATION_TIMESTAMP: made.strftime(labels.CREATION_LAYOUT),
    }


async def _pool(trial: Trial, name: str, marks: dict[str, str], **changed: Any) -> None:
    """Makes a pool at AKS, as somebody else would."""
    properties = {"count": 1, "vmSize": SIZE, "mode": "User", "nodeLabels": marks, **changed}
    aks = trial.world.aks
    pool = AgentPool({"properties": properties})
    poller = await aks.azure.agent_pools.begin_create_or_update(*aks.scope, name, pool)
    await poller.result()


async def _system(trial: Trial) -> set[str]:
    return set(await trial.world.aks.names())
