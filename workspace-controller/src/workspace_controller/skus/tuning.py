"""How much GPU memory fine-tuning a model takes, and whether a machine has it.

Invariant: whole bytes, per GPU: every GPU of a node holds the whole model and its own share of the
data, so more GPUs make tuning faster and never make a larger model fit. The figures are calculated
for LoRA on all linear layers with gradient checkpointing.

    weights      lora: 2 bytes a parameter; qlora: 0.52 for linear layers (NF4, double quantised),
                 2 for embeddings
    adapter      16 bytes a parameter: weight, gradient and two moments in 32 bits
    activations  2 x batch x tokens x hidden x (layers + 8)
    logits       12 x batch x tokens x vocabulary
    1.5 GiB      CUDA and buffers
"""

from dataclasses import dataclass
from typing import Final

from workspace_controller.presets.catalog import RUNTIME_CAPABILITY, Method, Preset, Tuning
from workspace_controller.quantities import GIB, in_gib
from workspace_controller.skus.fit import Misfit
from workspace_controller.skus.table import Sku

FIXED: Final = 3 * GIB // 2
NF4_PERCENT: Final = 52
"""Bytes of a hundred parameters in NF4 with double quantisation."""
TIGHT_PERCENT: Final = 90
"""Above this share of a GPU's memory tuning is likely to run out of it, though it may not."""


@dataclass(frozen=True)
class TuningRun:
    """What of a tuning's settings decides its memory; the defaults are those of the runtime."""

    rank: int = 8
    batch: int = 1
    tokens: int = 1024


DEFAULT_RUN: Final = TuningRun()


@dataclass(frozen=True)
class TuningFit:
    """How a model is tuned on one machine."""

    need: int
    """Bytes that it takes of each GPU."""
    gpus: int
    """GPUs that share the data."""
    tight: bool
    """Whether little memory is left, so that a longer example may not fit."""


def tuning_need(preset: Preset, method: Method, run: TuningRun = DEFAULT_RUN) -> int:
    """The bytes that tuning takes of each GPU.

    Raises:
        ValueError: the preset may not be tuned.
    """
    sizes = preset.tuning
    if sizes is None:
        raise ValueError(f"{preset.name} may not be tuned")
    tokens = run.batch * run.tokens
    activations = 2 * tokens * sizes.hidden * (sizes.layers + 8)
    logits = 12 * tokens * sizes.vocabulary
    adapter = 16 * _adapter_parameters(preset, sizes, run.rank)
    return _weights(preset, sizes, method) + adapter + activations + logits + FIXED


def _weights(preset: Preset, sizes: Tuning, method: Method) -> int:
    if method == "lora":
        return preset.weights
    embeddings = (1 if sizes.tied_embeddings else 2) * sizes.vocabulary * sizes.hidden
    linear = preset.weights // 2 - embeddings
    return linear * NF4_PERCENT // 100 + 2 * embeddings


def _adapter_parameters(preset: Preset, sizes: Tuning, rank: int) -> int:
    """Two thin matrices beside each linear layer: query, key, value, output and three of the MLP."""
    key_width = preset.kv_per_token // (4 * sizes.layers)
    attention = 2 * (2 * sizes.hidden) + 2 * (sizes.hidden + key_width)
    feed_forward = 3 * (sizes.hidden + sizes.feed_forward)
    return rank * sizes.layers * (attention + feed_forward)


def fit_tuning(
    preset: Preset, method: Method, sku: Sku, run: TuningRun = DEFAULT_RUN
) -> TuningFit | Misfit:
    """How the preset is tuned on one machine of that size, or why it is not."""
    if preset.tuning is None:
        return Misfit((f"{preset.name} may not be tuned",))
    if not sku.nvidia:
        return Misfit((f"{sku.name} has {sku.vendor} GPUs, and tuning needs NVIDIA",))
    if preset.capability > RUNTIME_CAPABILITY and (sku.capability or 0) < preset.capability:
        reason = f"{preset.name} needs GPUs of compute capability {preset.capability:g}"
        return Misfit((f"{reason}, the {sku.gpu} of {sku.name} has {sku.capability}",))
    need = tuning_need(preset, method, run)
    if need > sku.gpu_memory:
        return Misfit(
            (
                (
                    f"tuning {preset.name} by {method} takes {in_gib(need)} of each GPU, and each "
                    f"{sku.gpu} of {sku.name} has {in_gib(sku.gpu_memory)}"
                ),
            ),
            need,
            sku.gpu_memory,
        )
    return TuningFit(need, sku.gpus, tight=need * 100 > sku.gpu_memory * TIGHT_PERCENT)
