"""What faults do to one operation, and the facts that the texts of errors speak of.

Invariant: pure; decided once, when a request is accepted. A number in an error's text follows from
what was asked and what there is, as in an error that the emulator's own rules raise.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sandbox.aks.errors import ArmError
from sandbox.aks.faults import Fault
from sandbox.aks.records import Pool
from sandbox.aks.settings import Cluster, Settings
from sandbox.aks.skus import find_sku
from sandbox.aks.usage import bounds

ACTIONS: Final = {
    "PUT": "write",
    "DELETE": "delete",
    "ABORT": "abort/action",
    "DELETE_MACHINES": "deleteMachines/action",
    "UPGRADE": "upgradeNodeImageVersion/action",
}
"""What a verb is called in the permissions of a role, as far as it is not `read`."""


@dataclass(frozen=True)
class Trouble:
    """What faults do to one operation.

    Attributes:
        effects: names of the effects.
        failure: the error that it ends with, if they make it fail.
        fails_after: emulated seconds until then; 0 is the usual time.
        slowdown: by how much everything takes longer.
        late: emulated seconds by which Nodes join later.
    """

    effects: frozenset[str] = frozenset()
    failure: ArmError | None = None
    fails_after: float = 0.0
    slowdown: float = 1.0
    late: float = 0.0


NONE: Final = Trouble()


def trouble_of(faults: Iterable[Fault], facts: Mapping[str, object]) -> Trouble:
    """Returns what the faults add up to; the first `fail` is the one that counts."""
    failure, fails_after, slowdown, late = None, 0.0, 1.0, 0.0
    effects = set()
    for fault in faults:
        effects.add(fault.effect)
        match fault.effect:
            case "fail" if failure is None:
                failure, fails_after = fault.answer(**facts), fault.seconds
            case "slow":
                slowdown *= fault.factor
            case "late-node":
                late += fault.seconds
    return Trouble(frozenset(effects), failure, fails_after, slowdown, late)


def facts_about(
    cluster: Cluster,
    settings: Settings,
    pools: Mapping[str, Pool],
    verb: str,
    name: str,
    *,
    body: bytes,
) -> dict[str, object]:
    """Returns what is known about a call on the pool `name`, by the names in errors.yaml."""
    facts: dict[str, object] = {
        "pool": name,
        "region": cluster.location,
        "cluster": cluster.name,
        "client": cluster.client,
        "subscription": cluster.subscription,
        "scope": f"{cluster.id}/agentPools/{name}",
        "action": ACTIONS.get(verb, "read"),
    }
    pool = pools.get(name)
    wanted = _wanted(pool, body if verb == "PUT" else b"")
    sku = find_sku(str(wanted.get("vmSize", "")))
    if sku is None:
        return facts
    count = wanted.get("count", 1)
    here = len(pool.standing()) if pool else 0
    more = max(1, count - here) if isinstance(count, int) else 1
    spot = wanted.get("scaleSetPriority") == "Spot"
    bound = bounds(settings.quota, pools.values(), sku, spot=spot)[0]
    needed = sku.vcpus * more
    # Where quota is left, the fault stands for one that has just been used up.
    limit = bound.used if bound.fits(needed) or bound.limit is None else bound.limit
    return {
        **facts,
        "sku": sku.name,
        "family": bound.family,
        "needed": needed,
        "used": bound.used,
        "limit": limit,
        "remaining": max(0, limit - bound.used),
        "new_limit": bound.used + needed,
    }


def _wanted(pool: Pool | None, body: bytes) -> dict[str, Any]:
    """Returns the properties that a PUT would leave, as far as its body can be read."""
    present = dict(pool.properties) if pool else {}
    try:
        properties = json.loads(body)["properties"]
    except (ValueError, KeyError, TypeError):
        return present
    return present | properties if isinstance(properties, dict) else present
