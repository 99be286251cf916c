"""The lists of Microsoft.Compute by which a client looks before it asks: usages and VM sizes.

Invariant: what they say is what the agent pool API goes by: a size without a restriction here is
not refused there, and a request that fits a limit here meets no quota error there.
"""

import re
from typing import Any, Final

from starlette.responses import JSONResponse, Response

from sandbox.aks.calls import Call
from sandbox.aks.errors import known_error
from sandbox.aks.settings import Settings
from sandbox.aks.skus import Sku, all_skus, family_key
from sandbox.aks.usage import usage_of
from sandbox.aks.world import World

UNLIMITED: Final = 1_000_000
"""What stands for a quota that is not set: Azure has a number for each."""

FILTER: Final = re.compile(r"\s*location\s+eq\s+'(?P<location>[^']*)'\s*", re.IGNORECASE)


class Compute:
    """Answers for the one region that there is."""

    def __init__(self, world: World) -> None:
        self._world = world

    def usages(self, call: Call) -> Response:
        """Returns how much of each quota is in use."""
        location = call.names["location"]
        if location.lower() != self._world.cluster.location.lower():
            raise known_error("location-not-found", wanted=location)
        quota, usage = self._world.settings.quota, usage_of(self._world.pools.values())
        names = {family_key(sku.family): sku.family for sku in all_skus().values()}
        limits = {family_key(name): limit for name, limit in quota.families.items()}
        vms = sum(len(pool.instances) for pool in self._world.pools.values())
        found = [
            _usage("cores", "Total Regional vCPUs", usage.regional, quota.regional),
            _usage("lowPriorityCores", "Total Regional Low-priority vCPUs", usage.spot, quota.spot),
            _usage("virtualMachines", "Virtual Machines", vms, None),
            *(
                _usage(name, f"{name} vCPUs", usage.families[key], limits.get(key))
                for key, name in sorted(names.items())
            ),
        ]
        return JSONResponse({"value": found})

    def skus(self, call: Call) -> Response:
        """Returns the VM sizes of the region, those that the subscription may not use included."""
        region = self._world.cluster.location
        text = call.request.query_params.get("$filter", "")
        asked = FILTER.fullmatch(text)
        if text and asked is None:
            raise known_error("filter-invalid", wanted=text)
        if asked is not None and asked["location"].lower() != region.lower():
            return JSONResponse({"value": []})
        settings = self._world.settings
        return JSONResponse(
            {"value": [_size(sku, settings, region) for sku in all_skus().values()]}
        )


def _usage(name: str, localized: str, used: int, limit: int | None) -> dict[str, Any]:
    return {
        "unit": "Count",
        "currentValue": used,
        "limit": UNLIMITED if limit is None else limit,
        "name": {"value": name, "localizedValue": localized},
    }


def _size(sku: Sku, settings: Settings, region: str) -> dict[str, Any]:
    tier, _, size = sku.name.partition("_")
    capabilities = {
        "vCPUs": sku.vcpus,
        "MemoryGB": f"{sku.memory_gib:g}",
        **({"GPUs": sku.gpus} if sku.gpus else {}),
        "CpuArchitectureType": "x64",
        "LowPriorityCapable": "True",
    }
    return {
        "resourceType": "virtualMachines",
        "name": sku.name,
        "tier": tier,
        "size": size,
        "family": sku.family,
        "locations": [region],
        "locationInfo": [
            {"location": region, "zones": list(sku.zones_in(region)), "zoneDetails": []}
        ],
        "capabilities": [{"name": key, "value": str(value)} for key, value in capabilities.items()],
        "restrictions": _restrictions(sku, settings, region),
    }


def _restrictions(sku: Sku, settings: Settings, region: str) -> list[dict[str, Any]]:
    found = []
    if settings.refuses(sku):
        found.append(_restriction("Location", region, []))
    offered = settings.offered_zones(sku, region)
    if barred := [zone for zone in sku.zones_in(region) if zone not in offered]:
        found.append(_restriction("Zone", region, barred))
    return found


def _restriction(kind: str, region: str, zones: list[str]) -> dict[str, Any]:
    return {
        "type": kind,
        "values": [region],
        "restrictionInfo": {"locations": [region], **({"zones": zones} if zones else {})},
        "reasonCode": "NotAvailableForSubscription",
    }
