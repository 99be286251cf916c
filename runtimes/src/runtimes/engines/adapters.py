"""LoRA adapters on disk: which there are, how strong each is, and whether it may be loaded at all.

Everything is decided from names, one small JSON file and the header of the weights, before any tensor is read:
an adapter comes from an image that somebody else may have made.
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtimes.engines.contract import AdapterInfo
from runtimes.failure import Exit, StartupFailure

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
MAX_RANK = 256
MAX_WEIGHTS_BYTES = 8 * 2**30
MAX_JSON_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Adapter:
    """One adapter; `shapes` are those of its tensors, by name."""

    name: str
    folder: Path
    strength: float
    rank: int
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def info(self) -> AdapterInfo:
        """For metrics and listings."""
        return AdapterInfo(self.name, self.rank, self.strength)


def find(
    folder: Path, strengths: Mapping[str, float], environment: Mapping[str, str]
) -> tuple[Adapter, ...]:
    """The adapters in a folder's folders, sorted by name so that restarts agree.

    A strength that is not in `strengths` is taken from the variable with the adapter's name, as servers
    of v0.3 were told, else it is 1. Raises `StartupFailure`.
    """
    places = sorted(folder.iterdir()) if folder.is_dir() else []
    found = {place.name: place for place in places if (place / CONFIG).is_file()}
    if missing := sorted(set(strengths) - set(found)):
        there = ", ".join(found) or "none"
        raise StartupFailure(
            Exit.WEIGHTS,
            f"no adapter {', '.join(missing)} in {folder} (a folder of that name with {CONFIG}); "
            f"found there: {there}",
        )
    return tuple(
        _read(name, place, strengths.get(name, _strength(environment.get(name, ""))))
        for name, place in found.items()
    )


def _strength(variable: str) -> float:
    """A variable that happens to have an adapter's name says nothing unless it is a strength."""
    try:
        value = float(variable)
    except ValueError:
        return 1.0
    return value if 0 <= value <= 1 else 1.0


def _read(name: str, folder: Path, strength: float) -> Adapter:
    try:
        rank = _rank(folder / CONFIG)
        shapes = _shapes(folder / WEIGHTS)
    except (OSError, ValueError, struct.error) as error:
        raise StartupFailure(
            Exit.WEIGHTS, f"adapter {name} in {folder} cannot be used: {error}"
        ) from error
    return Adapter(name, folder, strength, rank, shapes)


def _rank(path: Path) -> int:
    """The highest rank of an adapter's config; ValueError unless it is a LoRA that we serve."""
    if path.stat().st_size > MAX_JSON_BYTES:
        raise ValueError(f"{CONFIG} is larger than {MAX_JSON_BYTES} bytes")
    config: Any = json.loads(path.read_bytes())
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise ValueError(f'{CONFIG} does not say "peft_type": "LORA"; no other adapters are served')
    pattern = config.get("rank_pattern") or {}
    ranks = [config.get("r"), *(pattern.values() if isinstance(pattern, dict) else [pattern])]
    if not all(isinstance(rank, int) and 1 <= rank <= MAX_RANK for rank in ranks):
        raise ValueError(f"its rank (r, rank_pattern) is not within 1 and {MAX_RANK}: {ranks}")
    return int(max(ranks))


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """What the header of a safetensors file says; ValueError if the file cannot hold it."""
    if not path.is_file():
        raise ValueError(f"{WEIGHTS} is missing; other formats can run code and are not loaded")
    size = path.stat().st_size
    if size > MAX_WEIGHTS_BYTES:
        raise ValueError(f"{WEIGHTS} is larger than {MAX_WEIGHTS_BYTES} bytes")
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > min(size - 8, MAX_JSON_BYTES):
            raise ValueError(f"{WEIGHTS} is damaged: its header does not fit into it")
        header = json.loads(file.read(length))
    tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
    if any(entry["data_offsets"][1] > size - 8 - length for entry in tensors.values()):
        raise ValueError(f"{WEIGHTS} is damaged: it ends before its last tensor")
    if not any(".lora_" in name for name in tensors):
        raise ValueError(f"{WEIGHTS} holds no LoRA tensor")
    return {name: tuple(entry["shape"]) for name, entry in tensors.items()}
