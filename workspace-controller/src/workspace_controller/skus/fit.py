"""Whether a preset fits a machine size, and which size is the cheapest that it fits.

Invariant: every comparison is in bytes of GPU memory that one replica really gets: the GPUs that
its pod asks for, not all that the machine has.
"""

from datetime import date

from workspace_controller.presets.catalog import Preset
from workspace_controller.quantities import in_gib
from workspace_controller.skus.table import Sku, SkuTable


def misfits(preset: Preset, sku: Sku) -> tuple[str, ...]:
    """Why one replica of the preset cannot run on one such machine; empty when it can."""
    if not sku.nvidia:
        return (f"{sku.name} has {sku.vendor} GPUs, and {preset.name} needs NVIDIA",)
    reasons = []
    if sku.gpus < preset.gpus:
        reasons.append(f"{preset.name} needs {preset.gpus} GPUs, {sku.name} has {sku.gpus}")
    if sku.gpu_memory < preset.gpu_memory_each:
        reasons.append(
            f"{preset.name} needs {in_gib(preset.gpu_memory_each)} on each GPU, "
            f"a {sku.gpu} of {sku.name} has {in_gib(sku.gpu_memory)}"
        )
    usable = min(sku.gpus, preset.gpus) * sku.gpu_memory
    if usable < preset.gpu_memory:
        reasons.append(
            f"{preset.name} needs {in_gib(preset.gpu_memory)} of GPU memory, "
            f"{sku.name} gives it {in_gib(usable)}"
        )
    return tuple(reasons)


def cheapest(preset: Preset, table: SkuTable, today: date) -> Sku | None:
    """The least expensive size in service that fits; None when no priced size does.

    For weights in bfloat16, a size that computes in it comes before any that must emulate it.
    """
    fitting = (
        sku
        for sku in table.skus
        if sku.usd is not None
        and (sku.retired is None or sku.retired > today)
        and not misfits(preset, sku)
    )
    emulates = preset.dtype == "bfloat16"
    return min(
        fitting,
        key=lambda sku: (emulates and not sku.bfloat16, sku.usd, sku.name),
        default=None,
    )


def suggestions(preset: Preset, table: SkuTable, today: date, *, limit: int = 3) -> tuple[str, ...]:
    """The names of the cheapest sizes in service that fit, for a message."""
    fitting = [
        sku
        for sku in table.skus
        if (sku.retired is None or sku.retired > today) and not misfits(preset, sku)
    ]
    fitting.sort(key=lambda sku: (sku.usd is None, sku.usd, sku.name))
    return tuple(sku.name for sku in fitting[:limit])
