"""What AKS accepts in a PUT of an agent pool.

Invariant: pure; a request is either returned as complete properties, defaults filled in, or refused
with the error that Azure would give. Nothing is guessed or silently corrected.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sandbox.aks.errors import known_error
from sandbox.aks.records import Pool
from sandbox.aks.settings import Settings
from sandbox.aks.skus import Sku, all_skus, find_sku

POOL_NAME: Final = re.compile(r"[a-z][a-z0-9]{0,11}")
LABEL_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
LABEL_VALUE: Final = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
PREFIX: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
TAINT: Final = re.compile(
    r"(?P<key>[^=:\s]+)(=(?P<value>[^:\s]*))?:(NoSchedule|PreferNoSchedule|NoExecute)"
)
RESERVED_PREFIX: Final = "kubernetes.azure.com"
SPOT_MARK: Final = "kubernetes.azure.com/scalesetpriority"

READ_ONLY: Final = frozenset(
    {"provisioningState", "eTag", "currentOrchestratorVersion", "nodeImageVersion", "status"}
)
FIXED: Final = (
    "vmSize",
    "osType",
    "type",
    "osDiskSizeGB",
    "osDiskType",
    "availabilityZones",
    "vnetSubnetID",
    "scaleSetPriority",
)
"""Properties that can't change once the pool exists."""

CHOICES: Final = {
    "osType": ("Linux", "Windows"),
    "mode": ("User", "System", "Gateway"),
    "osDiskType": ("Managed", "Ephemeral"),
    "scaleSetPriority": ("Regular", "Spot"),
    "scaleSetEvictionPolicy": ("Delete", "Deallocate"),
    "type": ("VirtualMachineScaleSets",),
}
RANGES: Final = {"maxPods": (10, 250), "osDiskSizeGB": (0, 2048)}


def admitted(
    name: str,
    wanted: Mapping[str, Any],
    existing: Pool | None,
    settings: Settings,
    location: str,
) -> tuple[dict[str, Any], Sku]:
    """Returns the properties of the new or changed pool, and its VM size.

    Raises:
        ArmError: 400 with Azure's code, naming the property.
    """
    changes = {key: value for key, value in wanted.items() if key not in READ_ONLY}
    if existing is not None:
        _check_unchanged(existing.properties, changes)
    properties = {**_defaults(), **(existing.properties if existing else {}), **changes}
    _check_name(name, str(properties["osType"]))
    _check_plain(properties)
    sku = _known_sku(properties, settings, location)
    _check_count(properties, settings)
    _check_zones(name, properties, settings.offered_zones(sku, location), location)
    _check_labels(properties)
    _check_taints(properties)
    _check_subnet(properties, settings)
    return _completed(properties, sku), sku


def _invalid(target: str, reason: str) -> Exception:
    return known_error("invalid-parameter", target=f"agentPoolProfile.{target}", reason=reason)


def _defaults() -> dict[str, Any]:
    return {
        "count": 1,
        "mode": "User",
        "osType": "Linux",
        "osSKU": "Ubuntu",
        "type": "VirtualMachineScaleSets",
        "osDiskType": "Managed",
        "kubeletDiskType": "OS",
        "maxPods": 110,
        "scaleSetPriority": "Regular",
        "enableAutoScaling": False,
        "enableNodePublicIP": False,
        "enableFIPS": False,
        "scaleDownMode": "Delete",
    }


def _completed(properties: dict[str, Any], sku: Sku) -> dict[str, Any]:
    completed = {key: value for key, value in properties.items() if value is not None}
    if not completed.get("osDiskSizeGB"):
        completed["osDiskSizeGB"] = _default_disk(sku)
    if completed["scaleSetPriority"] == "Spot":
        completed.setdefault("scaleSetEvictionPolicy", "Delete")
        completed.setdefault("spotMaxPrice", -1)
        mark = f"{SPOT_MARK}=spot:NoSchedule"
        taints = list(completed.get("nodeTaints", ()))
        completed["nodeTaints"] = taints if mark in taints else [*taints, mark]
    else:
        # Answers for ordinary pools don't carry the field.
        completed.pop("scaleSetPriority")
    return completed


def _default_disk(sku: Sku) -> int:
    """Returns GiB by vCPUs, as AKS documents for managed OS disks."""
    steps = ((8, 128), (16, 256), (64, 512))
    return next((gib for cores, gib in steps if sku.vcpus < cores), 1024)


def _check_name(name: str, os_type: str) -> None:
    longest = 6 if os_type == "Windows" else 12
    if not POOL_NAME.fullmatch(name) or len(name) > longest:
        raise _invalid(
            "name",
            f"the name of a {os_type} pool, {name!r}, must be 1 to {longest} lower-case letters and"
            " digits and start with a letter.",
        )


def _check_plain(properties: Mapping[str, Any]) -> None:
    for key, choices in CHOICES.items():
        value = properties.get(key)
        if value is not None and value not in choices:
            raise _invalid(key, f"{value!r} is not one of {', '.join(choices)}.")
    for key, (low, high) in RANGES.items():
        value = properties.get(key)
        if value is not None and not (_whole(value) and low <= value <= high):
            raise _invalid(key, f"{value!r} is not a whole number from {low} to {high}.")
    if properties["scaleSetPriority"] == "Spot" and properties["mode"] == "System":
        raise _invalid("scaleSetPriority", "a system pool can't be a spot pool.")


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_count(properties: Mapping[str, Any], settings: Settings) -> None:
    count = properties["count"]
    lowest = 1 if properties["mode"] == "System" else 0
    if not _whole(count) or not lowest <= count <= settings.max_nodes_per_pool:
        raise _invalid(
            "count", f"{count!r} is not a number from {lowest} to {settings.max_nodes_per_pool}."
        )


def _known_sku(properties: Mapping[str, Any], settings: Settings, location: str) -> Sku:
    size = properties.get("vmSize")
    if not isinstance(size, str) or not size:
        raise _invalid("vmSize", "a VM size is required.")
    sku = find_sku(size)
    if sku is None or settings.refuses(sku):
        offered = sorted(name for name, known in all_skus().items() if not settings.refuses(known))
        raise known_error("size-restricted", sku=size, region=location, available=",".join(offered))
    return sku


def _check_zones(
    name: str, properties: Mapping[str, Any], offered: Sequence[str], location: str
) -> None:
    wanted = properties.get("availabilityZones") or []
    if not isinstance(wanted, list) or not all(isinstance(zone, str) for zone in wanted):
        raise _invalid("availabilityZones", f"{wanted!r} is not a list of zone numbers as text.")
    missing = [zone for zone in wanted if zone not in offered]
    if missing:
        raise known_error(
            "zone-not-supported",
            zone=", ".join(missing),
            pool=name,
            region=location,
            available=", ".join(offered) or "(empty)",
        )


def _check_labels(properties: Mapping[str, Any]) -> None:
    labels = properties.get("nodeLabels") or {}
    if not isinstance(labels, dict):
        raise _invalid("nodeLabels", "labels are an object of names and values.")
    for key, value in labels.items():
        _check_key("nodeLabels", key)
        if not isinstance(value, str) or not LABEL_VALUE.fullmatch(value):
            raise _invalid("nodeLabels", f"the value {value!r} of {key!r} is not a label value.")


def _check_taints(properties: Mapping[str, Any]) -> None:
    taints = properties.get("nodeTaints") or []
    if not isinstance(taints, list):
        raise _invalid("nodeTaints", "taints are a list of key=value:effect.")
    seen: set[tuple[str, str]] = set()
    for taint in taints:
        parts = TAINT.fullmatch(taint) if isinstance(taint, str) else None
        if parts is None:
            raise _invalid("nodeTaints", f"{taint!r} does not read key=value:effect.")
        if parts["key"] != SPOT_MARK:
            _check_key("nodeTaints", parts["key"])
        if not LABEL_VALUE.fullmatch(parts["value"] or ""):
            raise _invalid("nodeTaints", f"{taint!r} has a value that no label could have.")
        identity = (parts["key"], taint.rsplit(":", 1)[1])
        if identity in seen:
            raise _invalid("nodeTaints", f"{taint!r} repeats a key and effect.")
        seen.add(identity)


def _check_key(target: str, key: str) -> None:
    prefix, _, name = key.rpartition("/")
    if not LABEL_NAME.fullmatch(name) or (prefix and not PREFIX.fullmatch(prefix)):
        raise _invalid(target, f"{key!r} is not a qualified name.")
    if prefix == RESERVED_PREFIX:
        raise _invalid(target, f"{key!r}: the prefix {RESERVED_PREFIX}/ is reserved for AKS.")


def _check_subnet(properties: Mapping[str, Any], settings: Settings) -> None:
    if settings.subnet and properties.get("vnetSubnetID") != settings.subnet:
        raise _invalid(
            "vnetSubnetID",
            f"all pools must be in one virtual network; the system pool is in {settings.subnet}.",
        )


def _check_unchanged(before: Mapping[str, Any], changes: Mapping[str, Any]) -> None:
    for key in FIXED:
        if changes.get(key) in (None, 0):
            continue
        present = before.get(key, "Regular" if key == "scaleSetPriority" else None)
        if not _same(present, changes[key]):
            raise known_error("property-change", target=f"properties.{key}")
    # AKS added its own taint to a spot pool, so the body that made the pool no longer matches.
    taints = changes.get("nodeTaints")
    if "scaleSetPriority" in before and taints is not None and taints != before["nodeTaints"]:
        raise known_error("property-change", target="properties.nodeTaints")


def _same(before: object, after: object) -> bool:
    if isinstance(before, str) and isinstance(after, str):
        return before.lower() == after.lower()
    return (before or None) == (after or None)
