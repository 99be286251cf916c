"""Push, pull and inspect images: each login that fits is tried in turn.

A host is spoken to without checked TLS only if it was named for that, and what a pull unpacks is the image
whose size was checked before.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import structlog

from runtimes.failure import Exit, Failure
from runtimes.oci import skopeo
from runtimes.oci.credentials import Credential, find
from runtimes.oci.image import FOLDER, Layout, build
from runtimes.oci.layers import Limits, unpack
from runtimes.oci.reference import Reference

T = TypeVar("T")

STAGING = ".pull-"
_LAYOUT = "layout"

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Access:
    """How registries may be reached; `seconds` is the deadline of each transfer."""

    docker_configs: Sequence[Path] = ()
    insecure_registries: Sequence[str] = ()
    seconds: float = 3600.0


@dataclass(frozen=True)
class Pulled:
    """What a pull brought: the manifest's digest, and the files, relative to the target."""

    digest: str
    files: list[str]


def push(layout: Layout, reference: Reference, access: Access) -> str:
    """Push a layout's image; returns its digest, which is the layout's. Raises `Failure`."""
    if reference.digest:
        raise Failure(Exit.SETTINGS, f"{reference}: an image is pushed to a tag, not to a digest")

    def heartbeat(seconds: float) -> None:
        log.info("pushing", image=str(reference), bytes=layout.size, seconds=round(seconds))

    def attempt(call: skopeo.Call) -> str:
        (call.folder / _LAYOUT).symlink_to(layout.folder.resolve())
        copied = (f"oci:{_LAYOUT}:{layout.tag}", f"docker://{reference}")
        flags = ("--preserve-digests", "--digestfile=digest", skopeo.retries())
        skopeo.run(call, "copy", *flags, *copied, progress=heartbeat)
        return (call.folder / "digest").read_text().strip()

    digest = _with_logins(reference, access, attempt, side="dest")
    if digest != layout.digest:
        raise Failure(
            Exit.REGISTRY, f"{reference}: the registry took {digest} for what is {layout.digest}"
        )
    return digest


def push_files(
    files: Mapping[str, Path],
    reference: Reference,
    access: Access,
    *,
    annotations: Mapping[str, str],
    epoch: int = 0,
) -> str:
    """Push an image of these files (see `image.build`); returns its reference by digest."""
    try:
        with tempfile.TemporaryDirectory(prefix="image-") as folder:
            layout = build(files, Path(folder), annotations=annotations, epoch=epoch)
            return reference.at(push(layout, reference, access))
    except OSError as error:
        raise Failure(
            Exit.UNEXPECTED, f"{reference}: its image cannot be made: {error.strerror or error}"
        ) from error


def inspect(reference: Reference, access: Access, *, folder: Path | None = None) -> dict[str, Any]:
    """The image's manifest, with `reference` (by digest) and `digest` added. Raises `Failure`.

    Temporary files go to `folder`, if one is given.
    """

    def attempt(call: skopeo.Call) -> bytes:
        return skopeo.run(call, "inspect", "--raw", skopeo.retries(), f"docker://{reference}")

    raw = _with_logins(reference, access, attempt, folder=folder)
    digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    try:
        manifest = dict(json.loads(raw))
    except (ValueError, TypeError) as error:
        raise Failure(Exit.DATA, f"{reference}: its manifest is not JSON: {error}") from error
    return {"reference": reference.at(digest), "digest": digest, **manifest}


def pull(reference: Reference, target: Path, access: Access, limits: Limits) -> Pulled:
    """Put what the image has in /data into `target` (made if missing).

    Files of the same name are replaced, each at once; others stay. Raises `Failure`.
    """
    try:
        target.mkdir(parents=True, exist_ok=True)
        for leftover in target.glob(f"{STAGING}*"):
            shutil.rmtree(leftover)  # of a pull that was killed
        with tempfile.TemporaryDirectory(prefix=STAGING, dir=target) as staging:
            pulled = _pull(reference, Path(staging), access, limits)
            for name in pulled.files:
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                (Path(staging) / FOLDER / name).replace(target / name)
            return pulled
    except OSError as error:
        raise Failure(
            Exit.UNEXPECTED, f"{reference} cannot be put into {target}: {error.strerror or error}"
        ) from error


def _pull(reference: Reference, staging: Path, access: Access, limits: Limits) -> Pulled:
    found = inspect(reference, access, folder=staging)
    _check_size(found, reference, limits)
    exact = Reference(reference.host, reference.name, digest=found["digest"])
    content = staging / FOLDER
    content.mkdir()

    def attempt(call: skopeo.Call) -> list[str]:
        def heartbeat(seconds: float) -> None:
            log.info(
                "pulling",
                image=str(reference),
                bytes=_size(call.folder),
                seconds=round(seconds),
            )

        copied = (f"docker://{exact}", f"oci:{_LAYOUT}:pulled")
        skopeo.run(call, "copy", skopeo.retries(), *copied, progress=heartbeat)
        log.info("unpacking", image=str(reference), bytes=_size(call.folder))
        return unpack(_layers(call.folder / _LAYOUT), content, limits)

    try:
        files = _with_logins(
            exact, access, attempt, side="src", folder=staging, max_file_bytes=limits.bytes
        )
    except Failure as failure:
        if failure.code is not Exit.DATA:
            raise
        raise Failure(Exit.DATA, f"{reference}: {failure.message}") from failure
    if not files:
        raise Failure(
            Exit.DATA, f"{reference} has nothing in /{FOLDER}: build it with `COPY ... /{FOLDER}/`"
        )
    return Pulled(found["digest"], files)


def _with_logins(
    reference: Reference,
    access: Access,
    attempt: Callable[[skopeo.Call], T],
    *,
    side: str = "",
    folder: Path | None = None,
    max_file_bytes: int | None = None,
) -> T:
    """What `attempt` returns for the first login that the registry accepts.

    Each attempt has a folder of its own, in `folder` or among the temporary files, that is gone
    afterwards.
    """
    refused: Failure | None = None
    logins: Sequence[Credential | None] = find(access.docker_configs, reference) or [None]
    for credential in logins:
        if refused is not None:
            log.warning("trying the next login", image=str(reference), reason=refused.message)
        with tempfile.TemporaryDirectory(prefix="skopeo-", dir=folder) as own:
            call = skopeo.Call(
                reference=reference,
                credential=credential,
                insecure=reference.host in access.insecure_registries,
                folder=Path(own),
                side=side,
                seconds=access.seconds,
                max_file_bytes=max_file_bytes,
            )
            try:
                return attempt(call)
            except skopeo.NotAllowed as error:
                refused = error
    assert refused is not None, "there was at least one attempt"
    raise refused


def _check_size(manifest: Mapping[str, Any], reference: Reference, limits: Limits) -> None:
    """Refuse before the first byte what says itself that it is too large."""
    try:
        size = sum(int(layer["size"]) for layer in manifest.get("layers", ()))
    except (TypeError, KeyError, ValueError) as error:
        raise Failure(Exit.DATA, f"{reference}: its manifest lists no sizes: {error}") from error
    if size > limits.bytes:
        raise Failure(
            Exit.DATA,
            f"{reference} has {size:,} bytes, and {limits.bytes:,} are allowed; "
            "if that is right, raise --max-bytes",
        )


def _layers(layout: Path) -> list[Path]:
    """The layers of the one image in a layout, lowest first; skopeo has checked their digests."""

    def blob(descriptor: Mapping[str, Any]) -> Path:
        return layout.joinpath("blobs", *str(descriptor["digest"]).split(":"))

    index = json.loads((layout / "index.json").read_bytes())
    manifest = json.loads(blob(index["manifests"][0]).read_bytes())
    return [blob(layer) for layer in manifest["layers"]]


def _size(folder: Path) -> int:
    """Bytes of all files; a file may vanish while they are counted."""
    total = 0
    for file in folder.rglob("*"):
        with suppress(FileNotFoundError):
            total += file.stat().st_size
    return total
