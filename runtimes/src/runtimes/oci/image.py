"""Build an image of files, as an OCI layout on disk.

The same files with the same annotations make the same digest, wherever and whenever they are built:
nothing in the image tells of this machine, this user or this hour.
"""

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

FOLDER = "data"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
INDEX = "application/vnd.oci.image.index.v1+json"
REF_NAME = "org.opencontainers.image.ref.name"
CREATED = "org.opencontainers.image.created"
# Weights are noise to a compressor: a higher level costs seconds and wins nothing.
_LEVEL = 1
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Layout:
    """An OCI layout with one image, called `tag` inside it; `size` in bytes, all blobs together."""

    folder: Path
    tag: str
    digest: str
    size: int


def build(
    files: Mapping[str, Path],
    folder: Path,
    *,
    annotations: Mapping[str, str],
    tag: str = "latest",
    epoch: int = 0,
) -> Layout:
    """Write a layout into `folder` (made if missing) whose image holds `files` under /data.

    `files` maps paths below /data to what is copied there; `epoch` is the date that the image
    tells, in seconds since 1970. OSError: a file cannot be read or written.
    """
    created = datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    blobs = _Blobs(folder / "blobs" / "sha256")
    layer, diff_id = _layer(files, blobs)
    config = blobs.put_json(
        CONFIG,
        {
            "architecture": "amd64",
            "os": "linux",
            "created": created,
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
            "history": [{"created": created, "created_by": f"COPY files /{FOLDER}"}],
        },
    )
    manifest = blobs.put_json(
        MANIFEST,
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config,
            "layers": [layer],
            "annotations": {CREATED: created, **annotations},
        },
    )
    entry = {**manifest, "annotations": {REF_NAME: tag}}
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}
    (folder / "index.json").write_bytes(_json(index))
    (folder / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))
    size = sum(descriptor["size"] for descriptor in (manifest, config, layer))
    return Layout(folder, tag, manifest["digest"], size)


class _Blobs:
    """The content-addressed files of a layout."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder

    def put_json(self, media_type: str, content: Any) -> dict[str, Any]:
        encoded = _json(content)
        digest = hashlib.sha256(encoded).hexdigest()
        (self.folder / digest).write_bytes(encoded)
        return _descriptor(media_type, digest, len(encoded))


def _layer(files: Mapping[str, Path], blobs: _Blobs) -> tuple[dict[str, Any], str]:
    """The one layer's descriptor, and the digest of its tar before compression."""
    unfinished = blobs.folder / "layer.unfinished"
    with unfinished.open("wb") as file:
        compressed = _Hashing(file)
        with gzip.GzipFile("", "wb", _LEVEL, cast("BinaryIO", compressed), mtime=0) as zipped:
            plain = _Hashing(zipped)
            _tar(files, cast("BinaryIO", plain))
    digest = compressed.hash.hexdigest()
    unfinished.replace(blobs.folder / digest)
    return _descriptor(LAYER, digest, compressed.size), f"sha256:{plain.hash.hexdigest()}"


def _tar(files: Mapping[str, Path], out: BinaryIO) -> None:
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        folders = {
            str(parent)
            for name in files
            for parent in Path(FOLDER, name).parents
            if str(parent) != "."
        }
        for name in sorted(folders):
            member = tarfile.TarInfo(name)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(member)
        for name in sorted(files):
            member = tarfile.TarInfo(f"{FOLDER}/{name}")
            with files[name].open("rb") as content:
                member.size, member.mode = os.fstat(content.fileno()).st_size, 0o644
                tar.addfile(member, content)


class _Hashing(io.RawIOBase):
    """Counts and hashes what passes through to `out`."""

    def __init__(self, out: BinaryIO | gzip.GzipFile) -> None:
        self._out = out
        self.hash = hashlib.sha256()
        self.size = 0

    def write(self, data: Any) -> int:
        self._out.write(data)
        self.hash.update(data)
        self.size += len(data)
        return len(data)


def _descriptor(media_type: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": size}


def _json(content: Any) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
