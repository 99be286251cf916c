import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox.images import ImageError, node_disk, recipes
from sandbox.images.commands import run
from sandbox.images.recipes import REPOSITORY, Recipe
from sandbox.processes import start_time

RECIPES = [
    recipes.WORKSPACE,
    recipes.GPU_PROVISIONER,
    recipes.MODEL_SERVER,
    recipes.MODEL_SERVER_PACKAGES,
    recipes.MODEL_SERVER_PROGRAM,
]


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").write_text("1")
    (tmp_path / "Dockerfile").write_text("FROM scratch")
    return Recipe("x", tmp_path, tmp_path / "Dockerfile", ("src",))


@pytest.mark.parametrize("changed", ["src/a.py", "src/b.py", "Dockerfile"])
def test_a_changed_file_changes_the_key(recipe: Recipe, changed: str) -> None:
    before = recipe.key()

    (recipe.context / changed).write_text("2")

    assert recipe.key() != before


def test_another_base_changes_the_key(recipe: Recipe) -> None:
    assert recipe.key("bookworm") != recipe.key("trixie")


def test_what_is_no_source_does_not_change_the_key(recipe: Recipe) -> None:
    before = recipe.key()

    (recipe.context / "README.md").write_text("2")
    (recipe.context / "src" / "__pycache__").mkdir()
    (recipe.context / "src" / "__pycache__" / "a.pyc").write_text("2")

    assert recipe.key() == before


def _copied(recipe: Recipe) -> set[str]:
    """What the Dockerfile copies from its context, in all stages that the target is made from."""
    stages = re.split(r"(?m)^FROM ", recipe.dockerfile.read_text())[1:]
    named = {stage.split("\n", 1)[0].rpartition(" AS ")[2]: stage for stage in stages}
    waiting = [recipe.target] if recipe.target else list(named)
    copied: set[str] = set()
    seen: set[str] = set()
    while waiting:
        if (name := waiting.pop()) in seen or name not in named:
            continue  # a base image from elsewhere
        seen.add(name)
        waiting.append(named[name].split()[0])
        for line in re.findall(r"(?m)^COPY (.*)$", named[name]):
            first, *others = line.split()
            if first.startswith("--from="):
                waiting.append(first.removeprefix("--from="))
            else:
                copied |= {first, *others[:-1]}
    return copied


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda each: f"{each.name}-{each.target}")
def test_the_key_covers_all_that_the_dockerfile_copies(recipe: Recipe) -> None:
    assert _copied(recipe) == set(recipe.sources)


def test_the_images_build_anywhere_and_run_without_root() -> None:
    for dockerfile in {recipe.dockerfile for recipe in RECIPES}:
        text = dockerfile.read_text()

        assert not re.findall(r"(?m)^FROM (?!\$\{BASE_IMAGE\}|[a-z-]+( AS |$))", text)
        assert "ARG BASE_IMAGE=python:3.11-slim-bookworm" in text
        assert re.search(r"(?m)^USER [1-9]\d*:[1-9]\d*$", text)


def test_every_image_is_built_with_the_same_uv() -> None:
    texts = [recipe.dockerfile.read_text() for recipe in RECIPES]

    assert len({tuple(re.findall(r"uv==\S+", text)) for text in texts}) == 1


def test_a_vms_disk_shares_files_but_not_databases(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    for name in ("content/blob", "bolt/meta.db"):
        (disk / "containerd" / name).parent.mkdir(parents=True)
        (disk / "containerd" / name).write_text("x")

    node_disk.clone(disk, tmp_path / "lib")
    (tmp_path / "lib" / "containerd" / "bolt" / "meta.db").write_text("y")

    blob = "containerd/content/blob"
    assert (disk / "containerd" / "bolt" / "meta.db").read_text() == "x"
    assert (disk / blob).stat().st_ino == (tmp_path / "lib" / blob).stat().st_ino


async def test_a_failed_build_shows_the_end_of_its_output(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such package"):
        await run(
            ["sh", "-c", "echo no such package; exit 3"],
            log=tmp_path / "log",
            say=lambda _: None,
            label="build",
        )


async def test_an_interrupted_build_ends_with_all_its_children(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    command = ["sh", "-c", f"sh -c 'echo $$ > {pid_file}; exec sleep 60' & wait"]
    build = asyncio.ensure_future(
        run(command, log=tmp_path / "log", say=lambda _: None, label="build")
    )
    assert await _soon(lambda: pid_file.exists() and pid_file.read_text() != "")

    build.cancel()

    with pytest.raises(asyncio.CancelledError):
        await build
    assert await _soon(lambda: start_time(int(pid_file.read_text())) is None)


async def _soon(condition: Callable[[], bool]) -> bool:
    for _ in range(500):
        if condition():
            return True
        await asyncio.sleep(0.01)
    return False


def test_the_repository_is_where_the_dockerfiles_are() -> None:
    assert (REPOSITORY / "runtimes" / "Dockerfile").is_file()
