"""Quota: how many vCPUs are in use, and which request is one too many.

Invariant: pure; a VM counts from the accepted PUT until it is gone, as Azure's quota does.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from sandbox.aks.errors import ArmError, known_error
from sandbox.aks.records import Pool
from sandbox.aks.settings import Quota
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


@dataclass(frozen=True)
class Bound:
    """One quota that a request meets.

    Attributes:
        kind: as the names of its errors have it: family, regional or spot.
        family: the VM family, as the quota or else the size spells it.
        limit: vCPUs; None is without limit.
        used: vCPUs.
    """

    kind: Literal["family", "regional", "spot"]
    family: str
    limit: int | None
    used: int

    def fits(self, needed: int) -> bool:
        """Says whether so many further vCPUs stay within it."""
        return self.limit is None or self.used + needed <= self.limit


def bounds(quota: Quota, pools: Iterable[Pool], sku: Sku, *, spot: bool) -> tuple[Bound, ...]:
    """Returns the quotas that bound VMs of this size, the one that Azure looks at first first."""
    usage = usage_of(pools)
    if spot:
        return (Bound("spot", sku.family, quota.spot, usage.spot),)
    families = {family_key(name): (name, limit) for name, limit in quota.families.items()}
    family, limit = families.get(family_key(sku.family), (sku.family, None))
    return (
        Bound("family", family, limit, usage.families[family_key(sku.family)]),
        Bound("regional", sku.family, quota.regional, usage.regional),
    )


def over_quota(
    quota: Quota, pools: Iterable[Pool], sku: Sku, more: int, *, spot: bool, region: str
) -> ArmError | None:
    """Returns the error for `more` further VMs of this size, or None when they fit."""
    needed = sku.vcpus * more
    if needed <= 0:
        return None
    for bound in bounds(quota, pools, sku, spot=spot):
        if bound.limit is not None and not bound.fits(needed):
            # Azure reports the spot quota from Compute alone, after the PUT was accepted.
            late = spot or quota.checked == "operation"
            return known_error(
                f"quota-{bound.kind}-late" if late else f"quota-{bound.kind}",
                family=bound.family,
                region=region,
                limit=bound.limit,
                used=bound.used,
                needed=needed,
                remaining=max(0, bound.limit - bound.used),
                new_limit=bound.used + needed,
            )
    return None
