"""LoRA adapters on a loaded transformers model: merged into one, or one of them for each batch.

Merging concatenates the low-rank factors, which is exact; every method belongs on the model thread.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer

from runtimes.engines.adapters import Adapter
from runtimes.failure import Exit, StartupFailure

Mode = Literal["merge", "select"]
MERGED = "merged"
PREFIX = "base_model.model."


class Adapters:
    """What lies on a model; in mode `merge` every answer has all of it, in mode `select` what it names."""

    def __init__(self, model: Any, adapters: Sequence[Adapter], mode: Mode) -> None:
        """Put the adapters on the model; raises `StartupFailure` for one that does not fit."""
        self._mode = mode
        for adapter in adapters:
            check_fit(model, adapter)
        self._model = model
        for adapter in adapters:
            self._load(adapter)
        names = [adapter.name for adapter in adapters]
        if mode == "merge" and len(names) > 1:
            self._merge(names)
        else:
            self._model.set_adapter(names[0])

    def _load(self, adapter: Adapter) -> None:
        # Kept in the type they are stored in: they are small, and float32 would slow each step.
        options: dict[str, Any] = {"adapter_name": adapter.name, "autocast_adapter_dtype": False}
        try:
            if isinstance(self._model, PeftModel):
                self._model.load_adapter(str(adapter.folder), **options)
            else:
                self._model = PeftModel.from_pretrained(self._model, str(adapter.folder), **options)
        except (OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
            raise _unusable(adapter.name, str(error).strip().splitlines()[0]) from error
        for layer in _layers(self._model):
            if adapter.name in layer.scaling:
                layer.scaling[adapter.name] *= adapter.strength
        for name, tensor in self._model.named_parameters():
            if f".{adapter.name}." in name and not torch.isfinite(tensor).all():
                raise _unusable(adapter.name, f"{name} holds values that are no numbers")

    def _merge(self, names: list[str]) -> None:
        try:
            self._model.add_weighted_adapter(
                names, [1.0] * len(names), MERGED, combination_type="cat"
            )
        except ValueError as error:
            raise StartupFailure(
                Exit.WEIGHTS,
                f"adapters {', '.join(names)} cannot be merged ({error}): "
                "serve them with --adapter_mode=select",
            ) from error
        self._model.set_adapter(MERGED)
        for name in names:
            self._model.delete_adapter(name)

    @contextmanager
    def active(self, name: str) -> Iterator[None]:
        """The model as a request for `name` wants it: in mode `select`, empty is the base model."""
        if self._mode == "merge":
            yield
        elif name:
            self._model.set_adapter(name)
            yield
        else:
            with self._model.disable_adapter():
                yield


def check_fit(model: Any, adapter: Adapter) -> None:
    """Raise `StartupFailure` unless every tensor of the adapter has its place in the model."""
    modules = dict(model.named_modules())
    for name, shape in adapter.shapes.items():
        path, _, part = name.removeprefix(PREFIX).partition(".lora_")
        if not part:
            continue
        module = modules.get(path)
        if module is None:
            raise _unusable(adapter.name, f"the model has no part {path}: it is for another model")
        side = {"A": ("in_features", -1), "B": ("out_features", 0)}.get(part[0])
        if side is None:
            continue
        size = getattr(module, side[0], None)
        if size is not None and size != shape[side[1]]:
            raise _unusable(
                adapter.name, f"{name} is for {shape[side[1]]} features, the model has {size}"
            )


def _layers(model: Any) -> Iterator[Any]:
    return (module for module in model.modules() if isinstance(module, LoraLayer))


def _unusable(name: str, cause: str) -> StartupFailure:
    return StartupFailure(Exit.WEIGHTS, f"adapter {name} cannot be used: {cause}")
