"""What the images are made from, and the keys under which they are kept.

A key changes with every byte that could change the image, so what has the key needs no rebuild.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
KEY_LENGTH = 16
_NOT_SOURCES = frozenset({"__pycache__", ".venv"})


@dataclass(frozen=True)
class Recipe:
    """An image: a Dockerfile, and all that it copies from its context."""

    name: str
    context: Path
    dockerfile: Path
    sources: tuple[str, ...]
    target: str = ""

    def key(self, *ingredients: str) -> str:
        """The key of the image made from these files and `ingredients`, such as its base's key."""
        digest = hashlib.sha256("\0".join([self.target, *ingredients]).encode())
        for path in [self.dockerfile, *self._files()]:
            digest.update(f"\0{path.name}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
        return digest.hexdigest()[:KEY_LENGTH]

    def _files(self) -> list[Path]:
        found: list[Path] = []
        for source in self.sources:
            path = self.context / source
            found += [path] if path.is_file() else sorted(path.rglob("*"))
        return [path for path in found if path.is_file() and not _NOT_SOURCES & {*path.parts}]


def combined_key(keys: Iterable[str]) -> str:
    """One key for what is made from several things with keys."""
    return hashlib.sha256("\0".join(keys).encode()).hexdigest()[:KEY_LENGTH]


def controller(repository: Path, folder: str, name: str) -> Recipe:
    """The recipe of a controller's image."""
    members = ("shared", "workspace-controller", "gpu-provisioner", "e2e")
    manifests = (f"{member}/pyproject.toml" for member in members)
    return Recipe(
        name=name,
        context=repository,
        dockerfile=repository / folder / "Dockerfile",
        sources=("pyproject.toml", "uv.lock", *manifests, "shared/src", f"{folder}/src"),
    )


def runtimes(repository: Path, target: str, sources: tuple[str, ...]) -> Recipe:
    """The recipe of one target of the model runtime's Dockerfile."""
    folder = repository / "runtimes"
    return Recipe("local/kaito-base", folder, folder / "Dockerfile", sources, target)


WORKSPACE = controller(REPOSITORY, "workspace-controller", "local/workspace")
GPU_PROVISIONER = controller(REPOSITORY, "gpu-provisioner", "local/gpu-provisioner")
MODEL_SERVER_PROGRAM = runtimes(REPOSITORY, "app", ("src",))
MODEL_SERVER_PACKAGES = runtimes(REPOSITORY, "deps", ("pyproject.toml", "uv.lock"))
MODEL_SERVER = runtimes(REPOSITORY, "tune", ("pyproject.toml", "uv.lock", "src"))
