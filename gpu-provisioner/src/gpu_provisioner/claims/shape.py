"""From what a claim asks for to the shape of an agent pool that serves it.

Invariant: pure, and never a guess: a claim that does not say exactly what to make is a problem with
a name, and costs nothing.
"""

import re
from datetime import UTC, datetime
from math import ceil
from typing import Final, Literal

from gpu_provisioner.azure.pools import Shape
from gpu_provisioner.binding import marks
from gpu_provisioner.claims.claim import Claim, Taint
from gpu_provisioner.claims.quantities import quantity
from gpuapis.labels import (
    ARCH,
    ASSIGNED_POOL,
    CAPACITY_TYPE,
    CREATION_LAYOUT,
    CREATION_TIMESTAMP,
    HOSTNAME,
    INSTANCE_TYPE,
    MACHINE_TYPE,
    NODE_IMAGE_FAMILY,
    NODEPOOL,
    OS,
    PROVISIONER_NAME,
    REGION,
    ZONE,
)

PoolMode = Literal["dedicated", "shared"]
"""Whether a pool serves one claim or all claims of its shape."""

MOST_SHARING: Final = 1_000
"""Nodes that AKS allows in a pool."""

_NAME: Final = re.compile(r"[a-z][a-z0-9]{0,11}")
_GIB: Final = 2**30
_MOST_DISK: Final = 2_048
_FAMILIES: Final = {"ubuntu": "Ubuntu", "azurelinux": "AzureLinux"}

_NOT_FOR_AKS: Final = frozenset({ARCH, OS, HOSTNAME, INSTANCE_TYPE, REGION, ZONE, ASSIGNED_POOL})
"""Labels that AKS sets by itself, and refuses or overrides when they are asked for; and our note."""

_ONLY: Final = {OS: "linux", ARCH: "amd64"}


class Unservable(Exception):
    """A claim that no agent pool can serve; the text says what is wrong and what would do."""


def shape_for(claim: Claim, mode: PoolMode, subnets: tuple[str, str] = ("", "")) -> Shape:
    """The shape of a pool that serves a claim.

    The pool of a dedicated claim carries all that the claim asks of its node, and so fits no other
    claim; a shared one carries what its claims have in common, the rest comes by registration.

    Args:
        claim: what is asked for.
        mode: whether other claims may have a place in the pool, too.
        subnets: resource ids of the cluster's node and pod subnets; "" for AKS's own.

    Raises:
        Unservable: the claim does not say what to make, or AKS cannot make it.
    """
    dedicated = mode == "dedicated"
    if dedicated and not _NAME.fullmatch(claim.name):
        raise Unservable(
            f"metadata.name {claim.name!r} cannot name an agent pool. Use 1 to 12 lower-case "
            "letters and digits, the first one a letter."
        )
    _check_platform(claim)
    vm_size = _instance_type(claim)
    return Shape(
        vm_size=vm_size,
        kind=claim.kind,
        os_sku=_FAMILIES.get(image_family(claim), "Ubuntu"),
        os_disk_gib=_disk(claim),
        labels=node_labels(claim, vm_size) if dedicated else shared_labels(claim, vm_size),
        taints=tuple(sorted(_written(taint) for taint in claim.taints)),
        zones=tuple(sorted(_zones(claim))),
        spot=capacity_type(claim) == "spot",
        subnet=subnets[0],
        pod_subnet=subnets[1],
        marks=marks(claim) if dedicated else {},
        most=1 if dedicated else MOST_SHARING,
    )


def allowed(claim: Claim, key: str) -> tuple[str, ...] | None:
    """The values that all `In` requirements on a label leave, in order; None when there is none."""
    lists = [
        each.values for each in claim.requirements if each.key == key and each.operator == "In"
    ]
    if not lists:
        return None
    return tuple(value for value in lists[0] if all(value in other for other in lists[1:]))


def resolved_labels(claim: Claim) -> dict[str, str]:
    """Labels that the requirements settle, for the claim to carry; it never loses one it has."""
    settled = {
        each.key: values[0]
        for each in claim.requirements
        if (values := allowed(claim, each.key)) is not None and len(values) == 1
    }
    if INSTANCE_TYPE not in settled and (sizes := allowed(claim, INSTANCE_TYPE)):
        settled[INSTANCE_TYPE] = sizes[0]
    settled.setdefault(CAPACITY_TYPE, capacity_type(claim))
    return {key: value for key, value in settled.items() if key not in claim.labels}


def node_labels(claim: Claim, vm_size: str) -> dict[str, str]:
    """The labels that AKS is to put on a claim's own node: ours, overlaid by the claim's."""
    made = claim.created or datetime.fromtimestamp(0, UTC)
    return {
        **_default_labels(claim),
        **{key: value for key, value in claim.labels.items() if key not in _NOT_FOR_AKS},
        MACHINE_TYPE: _machine_type(vm_size),
        CREATION_TIMESTAMP: made.astimezone(UTC).strftime(CREATION_LAYOUT),
    }


def shared_labels(claim: Claim, vm_size: str) -> dict[str, str]:
    """The labels that AKS is to put on every node of a pool that the claim shares."""
    default = _default_labels(claim)
    told = {key: claim.labels.get(key, value) for key, value in default.items()}
    return {**told, MACHINE_TYPE: _machine_type(vm_size)}


def _default_labels(claim: Claim) -> dict[str, str]:
    return {NODEPOOL: "kaito"} | ({PROVISIONER_NAME: "default"} if claim.kind == "Machine" else {})


def _machine_type(vm_size: str) -> str:
    return "gpu" if vm_size.lower().startswith("standard_n") else "cpu"


def capacity_type(claim: Claim) -> str:
    """`spot` when nothing else is allowed, else `on-demand`."""
    return "spot" if allowed(claim, CAPACITY_TYPE) == ("spot",) else "on-demand"


def image_family(claim: Claim) -> str:
    """The image family that is asked for, in lower case; "" for none."""
    return claim.annotations.get(NODE_IMAGE_FAMILY, "").strip().lower()


def unknown_image_family(claim: Claim) -> bool:
    """Whether an image family is asked for that we do not know, so that Ubuntu is taken."""
    return image_family(claim) not in {"", *_FAMILIES}


def _instance_type(claim: Claim) -> str:
    sizes = allowed(claim, INSTANCE_TYPE)
    if sizes is None:
        raise Unservable(
            f"spec.requirements has no {INSTANCE_TYPE} with operator In. Name the VM size there, "
            "such as Standard_NC24ads_A100_v4; other operators would leave it to chance."
        )
    if not sizes or not sizes[0]:
        raise Unservable(f"spec.requirements leave no value for {INSTANCE_TYPE}. Name one VM size.")
    return sizes[0]


def _check_platform(claim: Claim) -> None:
    for key, served in _ONLY.items():
        values = allowed(claim, key)
        if values is not None and served not in values:
            raise Unservable(
                f"spec.requirements ask for {key} in {', '.join(values) or 'nothing'}. "
                f"Only {served} can be made."
            )


def _disk(claim: Claim) -> int | None:
    """GiB, rounded up; None leaves it to AKS."""
    asked = claim.requests.get("storage", 0)
    try:
        gib = ceil(quantity(asked) / _GIB)
    except ValueError as error:
        raise Unservable(f"spec.resources.requests.storage: {error}.") from error
    if not 0 <= gib <= _MOST_DISK:
        raise Unservable(
            f"spec.resources.requests.storage is {asked}. An OS disk has 1Gi to {_MOST_DISK}Gi."
        )
    return gib or None


def _zones(claim: Claim) -> tuple[str, ...]:
    """Zone numbers; nodes carry the zone as region-number."""
    return tuple(zone.rpartition("-")[2] for zone in allowed(claim, ZONE) or ())


def _written(taint: Taint) -> str:
    pair = f"{taint.key}={taint.value}" if taint.value else taint.key
    return f"{pair}:{taint.effect}"
