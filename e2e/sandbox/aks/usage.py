"""Quota and capacity: how many vCPUs are in use, and which request is one too many.

Invariant: pure; a VM counts from the accepted PUT until it is gone, as Azure's quota does.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from sandbox.aks.errors import ArmError, known_error
from sandbox.aks.records import Pool
from sandbox.aks.settings import Settings
from sandbox.aks.skus import Sku, family_key, find_sku


@dataclass
class Usage:
    """vCPUs in use."""

    families: Counter[str] = field(default_factory=Counter)
    """By family key; spot VMs are not in it."""
    regional: int = 0
    spot: int = 0


def usage_of(pools: Iterable[Pool]) -> Usage:
    """Adds up what the pools' VMs use."""
    usage = Usage()
    for pool in pools:
        sku = find_sku(pool.vm_size)
        if sku is None:
            continue
        cores = sku.vcpus * len(pool.instances)
        if pool.spot:
            usage.spot += cores
        else:
            usage.families[family_key(sku.family)] += cores
            usage.regional += cores
    return usage


def over_quota(
    settings: Settings, pools: Iterable[Pool], sku: Sku, more: int, *, spot: bool, region: str
) -> ArmError | None:
    """Returns the error for `more` further VMs of this size, or None when they fit."""
    quota, usage = settings.quota, usage_of(pools)
    needed = sku.vcpus * more
    if needed <= 0:
        return None
    families = {family_key(name): (name, limit) for name, limit in quota.families.items()}
    family, family_limit = families.get(family_key(sku.family), (sku.family, None))
    bounds = (
        [("spot", sku.family, quota.spot, usage.spot)]
        if spot
        else [
            ("family", family, family_limit, usage.families[family_key(sku.family)]),
            ("regional", sku.family, quota.regional, usage.regional),
        ]
    )
    for kind, name, limit, used in bounds:
        if limit is not None and used + needed > limit:
            # Azure reports the spot quota from Compute alone, after the PUT was accepted.
            late = kind == "spot" or quota.checked == "operation"
            return known_error(
                f"quota-{kind}-late" if late else f"quota-{kind}",
                family=name,
                region=region,
                limit=limit,
                used=used,
                needed=needed,
                remaining=max(0, limit - used),
                new_limit=used + needed,
            )
    return None


def place(
    settings: Settings, sku: Sku, zones: Iterable[str], count: int, *, spot: bool
) -> list[str | None] | ArmError:
    """Chooses the zones of `count` new VMs, or returns the error of a sold-out size.

    Without wanted zones, VMs are regional (None) and only a region-wide shortage stops them.
    """
    wanted = tuple(zones)
    short = [item for item in settings.sold_out if item.sku.lower() == sku.name.lower()]
    if any(not item.zones for item in short):
        return known_error("capacity-spot" if spot else "capacity-regional")
    if not wanted:
        return [None] * count
    empty = {zone for item in short for zone in item.zones}
    stocked = [zone for zone in wanted if zone not in empty]
    if not stocked:
        return known_error("capacity-spot" if spot else "capacity-zonal")
    return [stocked[number % len(stocked)] for number in range(count)]
