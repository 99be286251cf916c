"""Adapters as vLLM wants them: folders of full strength, because it has no other.

A strength is a factor of `lora_alpha`; adapters that are merged become one of the sum of their ranks, which is
exact.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from runtimes.engines.adapters import CONFIG, WEIGHTS, Adapter
from runtimes.failure import Exit, StartupFailure


def prepare(
    adapters: Sequence[Adapter], folder: Path, *, merge_as: str = ""
) -> dict[str, tuple[Path, int]]:
    """Folders and ranks by name: one called `merge_as` with all adapters in it, or each by its own name.

    Raises `StartupFailure` for adapters that cannot be joined.
    """
    if merge_as and len(adapters) > 1:
        return {merge_as: _merge(adapters, folder / "merged")}
    return {
        merge_as or adapter.name: (_strengthen(adapter, folder / adapter.name), adapter.rank)
        for adapter in adapters
    }


def _strengthen(adapter: Adapter, folder: Path) -> Path:
    if adapter.strength == 1:
        return adapter.folder
    config = _config(adapter)
    config["lora_alpha"] = config.get("lora_alpha", 8) * adapter.strength
    pattern = config.get("alpha_pattern") or {}
    config["alpha_pattern"] = {name: alpha * adapter.strength for name, alpha in pattern.items()}
    folder.mkdir(parents=True)
    (folder / CONFIG).write_text(json.dumps(config))
    (folder / WEIGHTS).symlink_to(adapter.folder.resolve() / WEIGHTS)
    return folder


def _merge(adapters: Sequence[Adapter], folder: Path) -> tuple[Path, int]:
    """One adapter whose factors are those of all, side by side."""
    parts: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {}
    for adapter in adapters:
        scale = _scale(adapter)
        tensors = load_file(adapter.folder / WEIGHTS)
        for path in sorted({name.split(".lora_")[0] for name in tensors}):
            down, up = (tensors.get(f"{path}.lora_{side}.weight") for side in "AB")
            if down is None or up is None:
                raise _apart(adapter, f"{path} has no pair of lora_A and lora_B")
            parts.setdefault(path, []).append((down * scale, up))
    rank = max(sum(down.shape[0] for down, _ in pairs) for pairs in parts.values())
    merged = {}
    for path, pairs in parts.items():
        down = torch.cat([down for down, _ in pairs], dim=0)
        up = torch.cat([up for _, up in pairs], dim=1)
        missing = rank - down.shape[0]
        # Zeros beyond an adapter's own rank: every part of one adapter has one rank.
        merged[f"{path}.lora_A.weight"] = torch.nn.functional.pad(down, (0, 0, 0, missing))
        merged[f"{path}.lora_B.weight"] = torch.nn.functional.pad(up, (0, missing))
    folder.mkdir(parents=True)
    save_file({name: tensor.contiguous() for name, tensor in merged.items()}, folder / WEIGHTS)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": rank,
        "target_modules": sorted({path.rsplit(".", 1)[-1] for path in parts}),
        "base_model_name_or_path": None,
    }
    (folder / CONFIG).write_text(json.dumps(config))
    return folder, rank


def _scale(adapter: Adapter) -> float:
    """What the product of an adapter's factors is multiplied with."""
    config = _config(adapter)
    for name in ("rank_pattern", "alpha_pattern", "use_dora", "modules_to_save"):
        if config.get(name):
            raise _apart(adapter, f"its {name} is set")
    rank, alpha = adapter.rank, float(config.get("lora_alpha", 8))
    root = rank**0.5 if config.get("use_rslora") else rank
    return adapter.strength * alpha / float(root)


def _config(adapter: Adapter) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((adapter.folder / CONFIG).read_bytes())
    return config


def _apart(adapter: Adapter, cause: str) -> StartupFailure:
    return StartupFailure(
        Exit.WEIGHTS,
        f"adapter {adapter.name} cannot be merged for vLLM ({cause}): "
        "serve with --adapter_mode=select or --engine=transformers",
    )
