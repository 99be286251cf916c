"""Builds images with buildah on a Debian root of our own, in a store of our own.

What one build leaves in the store is layers and tagged images; working containers and mounts are
confined to the namespaces of the build and removed by the next.
"""

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from sandbox.images.commands import CONTAINED, ImageError, Say, run
from sandbox.images.recipes import Recipe, combined_key

DEBIAN = "bookworm"
MIRROR = "http://deb.debian.org/debian"
BASE_NAME = "local/debian"
MAX_IMAGES = 100
"""About 3 GB; each layer counts as an image."""
# Documentation and translations are a third of the files; perl goes with usr-is-merged.
_MMDEBSTRAP = (
    "mmdebstrap",
    "--variant=minbase",
    "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
    "--include=usr-is-merged,ca-certificates,python3,python3-venv",
    "--dpkgopt=force-unsafe-io",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
)
_HOST_BUNDLE = "/run/host-ca.crt"
_UV_CACHE = "/root/.cache/uv"


@dataclass(frozen=True)
class Buildah:
    """A store of images in `folder`, with the base image that all Dockerfiles build on."""

    folder: Path
    say: Say

    @property
    def log(self) -> Path:
        """Where the tools' output goes."""
        return self.folder / "build.log"

    @property
    def base_key(self) -> str:
        """The key of the base image."""
        return combined_key([*_MMDEBSTRAP, DEBIAN])

    async def ensure_base(self) -> None:
        """Makes the base image unless the store has it: Debian with Python, about 130 MB."""
        reference = f"{BASE_NAME}:{self.base_key}"
        if await self.has(reference):
            return
        self.say(f"making a Debian {DEBIAN} root with mmdebstrap")
        root = self.folder / "base"
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        try:
            command = [*CONTAINED, *_MMDEBSTRAP, DEBIAN, str(root / "root.tar"), MIRROR]
            await run(command, log=self.log, say=self.say, label="mmdebstrap")
            (root / "Dockerfile").write_text("FROM scratch\nADD root.tar /\n")
            arguments = ["build", f"--tag={reference}", str(root)]
            await self._buildah(arguments, label="Debian root")
        finally:
            shutil.rmtree(root)

    async def build(
        self,
        recipe: Recipe,
        reference: str,
        *,
        volumes: Mapping[Path, str] | None = None,
        layers: bool = True,
    ) -> None:
        """Builds an image and calls it `reference`.

        `volumes` (host folder to path in the build) are written to during the build, and are
        not part of the image. Without `layers` every step is done, whatever was built before.

        Raises:
            ImageError: the build failed.
        """
        arguments = [
            "build",
            f"--layers={'true' if layers else 'false'}",
            "--isolation=chroot",
            f"--build-arg=BASE_IMAGE=localhost/{BASE_NAME}:{self.base_key}",
            *self._host_arguments(),
            *(f"--volume={folder}:{path}" for folder, path in (volumes or {}).items()),
            *([f"--target={recipe.target}"] if recipe.target else []),
            f"--file={recipe.dockerfile}",
            f"--tag={reference}",
            str(recipe.context),
        ]
        await self._buildah(arguments, label=reference)

    async def has(self, reference: str) -> bool:
        """Says whether the store has an image of this name."""
        command = [*self._command(), "inspect", "--type=image", f"localhost/{reference}"]
        asked = await asyncio.to_thread(
            subprocess.run, command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        return asked.returncode == 0

    async def export(self, reference: str, archive: Path, name: str) -> None:
        """Writes an image as an archive in which it is called `name`."""
        target = f"docker-archive:{archive}:docker.io/{name}"
        arguments = ["push", "--disable-compression", f"localhost/{reference}", target]
        await self._buildah(arguments, label=f"writing {name}")

    def push_command(self, reference: str) -> str:
        """What to type to push an image to a registry."""
        return f"{' '.join(self._command())} push localhost/{reference} docker://REGISTRY/NAME:TAG"

    async def tidy(self) -> None:
        """Removes the working containers that an interrupted build left in the store."""
        await self._buildah(["rm", "--all"], label="tidying the image store")

    async def forget(self, repositories: Collection[str], *, but: Collection[str]) -> None:
        """Removes old images of these repositories, and layers, once they are many.

        Layers make the next build of a changed program fast, and removing them takes a while.
        """
        listed = await asyncio.to_thread(
            subprocess.run, [*self._command(), "images", "--json"], capture_output=True, check=True
        )
        images = json.loads(listed.stdout)
        if len(images) <= MAX_IMAGES:
            return
        names = [name for image in images for name in image["names"] or ()]
        kept = {f"localhost/{reference}" for reference in but}
        prefixes = tuple(f"localhost/{repository}:" for repository in repositories)
        if old := [name for name in names if name.startswith(prefixes) and name not in kept]:
            await self._buildah(["rmi", *old], label="removing old images")
        await self._buildah(["rmi", "--prune"], label="removing old layers")

    async def _buildah(self, arguments: list[str], *, label: str) -> None:
        command = [*CONTAINED, *self._command(), *arguments]
        await run(command, log=self.log, say=self.say, label=label)

    def _command(self) -> list[str]:
        return [
            "buildah",
            f"--root={self.folder / 'store'}",
            f"--runroot={self.folder / 'store-run'}",
        ]

    def _host_arguments(self) -> list[str]:
        """Lends the build the host's certificate bundle and uv's cache; neither is baked in."""
        cache = uv_cache()
        cache.mkdir(parents=True, exist_ok=True)
        arguments = [f"--volume={cache}:{_UV_CACHE}"]
        if bundle := certificate_bundle():
            pip = self.folder / "pip.conf"
            pip.write_text(f"[global]\ncert = {_HOST_BUNDLE}\n")
            arguments += [
                f"--volume={bundle}:{_HOST_BUNDLE}:ro",
                f"--volume={pip}:/etc/pip.conf:ro",
                f"--build-arg=SSL_CERT_FILE={_HOST_BUNDLE}",
            ]
        return arguments


def uv_cache() -> Path:
    """The cache of uv on this host: what it downloaded once is not downloaded again."""
    if chosen := os.environ.get("UV_CACHE_DIR"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "uv"


def certificate_bundle() -> Path | None:
    """The certificate authorities that this host trusts, its network's own among them."""
    chosen = os.environ.get("SSL_CERT_FILE")
    for path in (chosen, "/etc/ssl/certs/ca-certificates.crt"):
        if path and Path(path).is_file():
            return Path(path)
    return None


def ensure_space(folder: Path, gigabytes: float) -> None:
    """Refuses to begin what would fill the disk.

    Raises:
        ImageError: less is free.
    """
    free = shutil.disk_usage(folder).free / 1e9
    if free < gigabytes:
        raise ImageError(
            f"{folder} has {free:.1f} GB free and the images need {gigabytes:.0f} GB;"
            " free some space or point XDG_CACHE_HOME at a larger disk"
        )
