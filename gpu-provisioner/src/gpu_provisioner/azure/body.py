"""Between our picture of an agent pool and the SDK's: the body of a PUT, and the reading of a GET.

Invariant: a body holds only what we decide on; everything else is left to AKS's defaults.
"""

import json
from enum import Enum
from typing import Any

from azure.mgmt.containerservice.models import AgentPool

from gpu_provisioner.azure.pools import Pool, PoolSpec, PoolState

_STATES: dict[str, PoolState] = {
    "succeeded": "Succeeded",
    "failed": "Failed",
    "canceled": "Failed",
    "deleting": "Deleting",
}


def pool_body(spec: PoolSpec) -> AgentPool:
    """The SDK's model of a pool to be made.

    It is given as JSON, because the flat keyword `type` names a read-only field of the resource
    and would be dropped from the body in silence.
    """
    shape = spec.shape
    properties: dict[str, Any] = {
        "count": spec.count,
        "vmSize": shape.vm_size,
        "osType": "Linux",
        "osSKU": shape.os_sku,
        "type": "VirtualMachineScaleSets",
        "mode": "User",
        "nodeLabels": dict(shape.labels),
        "nodeTaints": list(shape.taints),
        "tags": dict(spec.tags),
    }
    if shape.os_disk_gib:
        properties["osDiskSizeGB"] = shape.os_disk_gib
    if shape.zones:
        properties["availabilityZones"] = list(shape.zones)
    if shape.spot:
        properties |= {
            "scaleSetPriority": "Spot",
            "scaleSetEvictionPolicy": "Delete",
            "spotMaxPrice": -1.0,
        }
    if shape.subnet:
        properties["vnetSubnetID"] = shape.subnet
    if shape.pod_subnet:
        properties["podSubnetID"] = shape.pod_subnet
    return AgentPool({"properties": properties})


def read_pool(told: AgentPool) -> Pool:
    """What Azure told of a pool; whatever it left out reads as empty."""
    properties = told.properties
    phase = _word(properties, "provisioning_state")
    return Pool(
        name=told.name or "",
        # A state that AKS invents later is one that has not ended yet.
        state=_STATES.get(phase.lower(), "InProgress"),
        phase=phase,
        etag=_word(properties, "e_tag"),
        system=_word(properties, "mode") == "System",
        count=_told(properties, "count") or 0,
        vm_size=_word(properties, "vm_size"),
        image=_word(properties, "node_image_version"),
        labels=dict(_told(properties, "node_labels") or {}),
        tags=dict(_told(properties, "tags") or {}),
        running=_word(_told(properties, "power_state"), "code") in {"", "Running"},
        subnet=_word(properties, "vnet_subnet_id"),
        pod_subnet=_word(properties, "pod_subnet_id"),
        error=_error(_told(properties, "status")),
    )


def _told(properties: Any, name: str) -> Any:
    return getattr(properties, name, None)


def _word(properties: Any, name: str) -> str:
    """A string property; the SDK turns words that it knows into members of an enumeration."""
    value = _told(properties, name)
    return str(value.value if isinstance(value, Enum) else value or "")


def _error(status: Any) -> str:
    error = _told(status, "provisioning_error")
    return json.dumps(error.as_dict()) if error is not None else ""
