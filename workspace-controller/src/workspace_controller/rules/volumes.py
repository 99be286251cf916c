"""Volumes that hold data or receive results.

Invariant: what no pod could mount, what is empty when the pod starts and what cannot be written to
is refused here, before a node is paid for.
"""

from collections.abc import Generator, Iterator, Mapping
from typing import Any, Final

from workspace_controller.reading import shown
from workspace_controller.rules.finding import Finding, Rule, meant

VOLUME = Rule("volume-kind", "A volumeSource names exactly one kind of volume that Kubernetes has.")
CLAIM = Rule("volume-claim", "A persistentVolumeClaim names its claim.")
EMPTY = Rule("volume-empty", "A volume that data comes from is not one that starts empty.")
READ_ONLY = Rule("volume-writable", "A volume that receives a result can be written to.")

KINDS: Final = (
    "awsElasticBlockStore", "azureDisk", "azureFile", "cephfs", "cinder", "configMap", "csi",
    "downwardAPI", "emptyDir", "ephemeral", "fc", "flexVolume", "flocker", "gcePersistentDisk",
    "gitRepo", "glusterfs", "hostPath", "image", "iscsi", "nfs", "persistentVolumeClaim",
    "photonPersistentDisk", "portworxVolume", "projected", "quobyte", "rbd", "scaleIO", "secret",
    "storageos", "vsphereVolume",
)  # fmt: skip
STARTS_EMPTY: Final = ("emptyDir", "ephemeral")
NOT_WRITABLE: Final = ("configMap", "downwardAPI", "image", "projected", "secret")


def source_volume_findings(field: str, volume: Mapping[str, Any]) -> Iterator[Finding]:
    """What is wrong with a volume that data comes from."""
    kind = yield from _kind(field, volume)
    if kind in STARTS_EMPTY:
        yield EMPTY.broken(
            field,
            f"is of the kind {kind}, which holds nothing when the pod starts: name a volume that "
            "has the data, such as a persistentVolumeClaim",
            kind,
        )


def target_volume_findings(field: str, volume: Mapping[str, Any]) -> Iterator[Finding]:
    """What is wrong with a volume that receives a result."""
    kind = yield from _kind(field, volume)
    if kind in NOT_WRITABLE:
        yield READ_ONLY.broken(
            field,
            f"is of the kind {kind}, which cannot be written to: name another, such as a "
            "persistentVolumeClaim",
            kind,
        )
    if kind in STARTS_EMPTY:
        yield EMPTY.broken(
            field,
            f"is of the kind {kind}, which is deleted with the pod, and the result with it: name "
            "another, such as a persistentVolumeClaim",
            kind,
        )


def _kind(field: str, volume: Mapping[str, Any]) -> Generator[Finding, None, str]:
    """Yields what is wrong with the volume as such; returns its kind, "" where it has none."""
    kinds = sorted(volume)
    if len(kinds) != 1:
        yield VOLUME.broken(
            field,
            f"names {', '.join(kinds) or 'nothing'}; it must name exactly one kind of volume, such "
            "as persistentVolumeClaim",
            kinds,
        )
        return ""
    [kind] = kinds
    settings = volume[kind]
    if kind not in KINDS:
        yield VOLUME.broken(
            field,
            f"names {shown(kind)}, which is no kind of volume.{meant(kind, KINDS)} "
            f"Allowed: {', '.join(KINDS)}",
            kind,
        )
        return ""
    if not isinstance(settings, dict):
        yield VOLUME.broken(f"{field}.{kind}", f"is {shown(settings)}; it must be an object", kind)
        return ""
    if kind == "persistentVolumeClaim" and not settings.get("claimName"):
        yield CLAIM.broken(f"{field}.{kind}.claimName", "is missing: name the claim to mount")
    return kind
