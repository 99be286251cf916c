"""Makes everything that nodes boot from, and only what the cache does not hold yet."""

import asyncio
import fcntl
import shutil
import sys
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from sandbox import tools
from sandbox.images import node_disk, recipes
from sandbox.images.buildah import Buildah, ensure_space
from sandbox.images.commands import ImageError, Say
from sandbox.images.recipes import Recipe, combined_key

TAG = "dev"
PAUSE = "local/pause:1"
KEPT_GENERATIONS = 2
_PAUSE_DOCKERFILE = Path(__file__).with_name("pause.Dockerfile")


@dataclass(frozen=True)
class NodeDisk:
    """What a VM boots from: a folder for /var/lib, and one that containers see at /opt/venv."""

    disk: Path
    environment: Path


def to_stderr(text: str) -> None:
    """Says one line of progress."""
    print(text, file=sys.stderr, flush=True)


async def prepare(bin_folder: Path, say: Say = to_stderr) -> NodeDisk:
    """Builds the images of both controllers and of the model server, and a node's disk of them.

    The model server's 5 GB of packages are kept beside its image, once for all nodes.

    Raises:
        ImageError: a build failed, or the disk is too full.
    """
    async with _workshop(say) as buildah:
        base = buildah.base_key
        packages = recipes.MODEL_SERVER_PACKAGES
        environment = buildah.folder / f"environment-{packages.key(base)}"
        images = {
            PAUSE: Recipe(PAUSE, bin_folder, _PAUSE_DOCKERFILE, ("pause",)),
            f"local/workspace:{TAG}": recipes.WORKSPACE,
            f"local/gpu-provisioner:{TAG}": recipes.GPU_PROVISIONER,
            f"local/kaito-base:{TAG}": recipes.MODEL_SERVER_PROGRAM,
        }
        keys = {name: recipe.key(base) for name, recipe in images.items()}
        disk = buildah.folder / f"node-disk-{combined_key([*keys, *keys.values()])}"
        if not disk.exists() or not environment.exists():
            ensure_space(buildah.folder, 12.0)
            await buildah.tidy()
            await _timed(say, "the Debian root", buildah.ensure_base())
        if not environment.exists():
            made = _make_environment(buildah, packages, environment)
            await _timed(say, "the model server's packages", made)
        if not disk.exists():
            references = {name: f"{_repository(name)}:{keys[name]}" for name in images}
            for name, reference in references.items():
                if not await buildah.has(reference):
                    await _timed(say, f"image {name}", buildah.build(images[name], reference))
            await _timed(say, "the nodes' disk", _make_disk(buildah, disk, references))
            await buildah.forget([_repository(name) for name in images], but=references.values())
        _forget_old(buildah.folder, "environment-*", keep=environment)
        _forget_old(buildah.folder, "node-disk-*", keep=disk)
        return NodeDisk(disk, environment)


async def build_all(say: Say = to_stderr) -> list[str]:
    """Builds the three images whole, the model server's with its 5 GB of packages.

    Returns commands that push them to a registry.

    Raises:
        ImageError: a build failed, or the disk is too full.
    """
    everything = (recipes.WORKSPACE, recipes.GPU_PROVISIONER, recipes.MODEL_SERVER)
    async with _workshop(say) as buildah:
        ensure_space(buildah.folder, 25.0)
        await buildah.tidy()
        await buildah.ensure_base()
        for recipe in everything:
            # Layers of 5 GB are not worth keeping for the next time.
            kept = recipe is not recipes.MODEL_SERVER
            built = buildah.build(recipe, f"{recipe.name}:full", layers=kept)
            await _timed(say, f"image {recipe.name}:full", built)
        return [buildah.push_command(f"{recipe.name}:full") for recipe in everything]


async def _make_environment(buildah: Buildah, packages: Recipe, folder: Path) -> None:
    unfinished = folder.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    # The build writes its packages into our folder instead of into a layer, so every step
    # has to be done for real.
    volumes = {unfinished: "/opt/venv"}
    await buildah.build(packages, f"{packages.name}:packages", volumes=volumes, layers=False)
    if not (unfinished / "bin" / "python3").is_symlink():
        raise ImageError(f"{packages.dockerfile}: target deps left no environment at /opt/venv")
    unfinished.rename(folder)


def _repository(name: str) -> str:
    return name.partition(":")[0]


async def _make_disk(buildah: Buildah, disk: Path, references: dict[str, str]) -> None:
    archives = buildah.folder / "archives"
    shutil.rmtree(archives, ignore_errors=True)
    archives.mkdir()
    try:
        written: list[Path] = []
        for name, reference in references.items():
            archive = archives / f"{len(written)}.tar"
            await buildah.export(reference, archive, name)
            written.append(archive)
        await node_disk.make(disk, written, log=buildah.log, say=buildah.say)
    finally:
        await asyncio.to_thread(shutil.rmtree, archives)


@asynccontextmanager
async def _workshop(say: Say) -> AsyncIterator[Buildah]:
    """Lends the cache folder's image store to one caller at a time."""
    folder = tools.cache_folder() / "images"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        waiting = False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not waiting:
                    say("another process is building images; waiting for it")
                waiting = True
                await asyncio.sleep(0.5)
        buildah = Buildah(folder, say)
        buildah.log.unlink(missing_ok=True)
        yield buildah


async def _timed(say: Say, what: str, work: Awaitable[None]) -> None:
    started = time.monotonic()
    await work
    if (seconds := time.monotonic() - started) > 0.5:
        say(f"  {what}: {seconds:.1f} s")


def _forget_old(folder: Path, pattern: str, *, keep: Path) -> None:
    """Removes all but the newest generations; one before the last may still be in use."""
    others = [path for path in folder.glob(pattern) if path != keep]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in others[KEPT_GENERATIONS - 1 :]:
        shutil.rmtree(path, ignore_errors=True)
