"""What the catalogue says of each preset, as rows of words for a terminal or a page.

Invariant: every figure is computed where admission and the controller compute it; nothing is typed
here twice.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from workspace_controller.presets.catalog import METHODS, Catalog, Method, Preset
from workspace_controller.quantities import GIB, in_gib
from workspace_controller.skus.choice import Trial, choose, serving, tuning
from workspace_controller.skus.fit import Fit, fit
from workspace_controller.skus.table import Sku, SkuTable
from workspace_controller.skus.tuning import tuning_need

NOTHING = "-"


@dataclass(frozen=True)
class Table:
    """A heading for each column, and rows of the same length."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def text(self) -> str:
        """Aligned columns for a terminal."""
        lines = [self.headings, *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.headings))]
        return "\n".join(_aligned(line, widths) for line in lines)

    def markdown(self) -> str:
        """A table of a Markdown page."""
        rule = tuple("---" for _ in self.headings)
        return "\n".join(f"| {' | '.join(line)} |" for line in (self.headings, rule, *self.rows))


def _aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    padded = (word.ljust(width) for word, width in zip(line, widths, strict=True))
    return "  ".join(padded).rstrip()


def serving_table(presets: Iterable[Preset], skus: SkuTable, today: date) -> Table:
    """What it takes to serve each preset, and the size that is chosen for it."""
    headings = (
        *("PRESET", "ACCESS", "WEIGHTS", "CONTEXT", "DISK", "READY WITHIN", "ENGINES"),
        *("CHOSEN SIZE", "GPUS", "USD/H", "ROOM FOR TOKENS", "SPREAD"),
    )
    return Table(headings, tuple(_serving_row(preset, skus, today) for preset in presets))


def _serving_row(preset: Preset, skus: SkuTable, today: date) -> tuple[str, ...]:
    return (
        preset.name,
        preset.access,
        in_gib(preset.weights),
        f"{preset.context_tokens:,}",
        preset.disk,
        f"{preset.readiness_timeout // timedelta(minutes=1)} min",
        ", ".join(preset.engines),
        *_chosen(preset, skus, today),
        "yes" if preset.distributed else "no",
    )


def _chosen(preset: Preset, skus: SkuTable, today: date) -> tuple[str, ...]:
    choice = choose(preset, skus, today, serving(preset))
    how = fit(preset, choice.sku) if choice is not None else None
    if choice is None or not isinstance(how, Fit):
        return (NOTHING,) * 4
    return choice.sku.name, str(how.gpus), _usd(choice.sku), f"{how.tokens:,}"


def source_table(presets: Iterable[Preset]) -> Table:
    """Under which names a preset is known, and which commit of its model is served."""
    rows = (
        (
            preset.name,
            f"[{preset.model}](https://huggingface.co/{preset.model})",
            _commit(preset),
            ", ".join(preset.all_names[1:-1]) or NOTHING,
        )
        for preset in presets
    )
    return Table(("PRESET", "MODEL", "COMMIT", "ALSO CALLED"), tuple(rows))


def _commit(preset: Preset) -> str:
    if preset.access == "private":
        return "in your image"
    return f"`{preset.revision[:12]}`" if preset.revision else "not pinned"


def tuning_table(catalog: Catalog, skus: SkuTable, today: date) -> Table:
    """What it takes to tune the presets that may be tuned."""
    headings = ("PRESET", "DISK", *(f"{each.upper()} PER GPU, {word}" for each, word in _HALVES))
    rows = (
        (preset.name, preset.tuning.disk, *_tuning_words(preset, skus, today))
        for preset in catalog.presets
        if preset.tuning is not None
    )
    return Table(headings, tuple(rows))


_HALVES = [(method, word) for method in METHODS for word in ("NEED", "CHOSEN SIZE")]


def _tuning_words(preset: Preset, skus: SkuTable, today: date) -> Iterable[str]:
    for method in METHODS:
        yield in_gib(tuning_need(preset, method))
        yield _name_of_choice(preset, skus, today, method)


def _name_of_choice(preset: Preset, skus: SkuTable, today: date, method: Method) -> str:
    trial: Trial = tuning(preset, method)
    choice = choose(preset, skus, today, trial)
    return choice.sku.name if choice is not None else NOTHING


def size_table(skus: SkuTable, today: date) -> Table:
    """The machine sizes whose GPUs are known, those in service first."""
    headings = (
        *("SIZE", "GPUS", "MEMORY OF ONE", "CAPABILITY", "QUOTA FAMILY", "NVME", "USD/H"),
        *("REGION", "RETIRED"),
    )
    ordered = sorted(skus.skus, key=lambda sku: not sku.in_service(today))
    return Table(headings, tuple(_size_row(sku) for sku in ordered))


def _size_row(sku: Sku) -> tuple[str, ...]:
    return (
        sku.name,
        f"{sku.gpus} x {sku.gpu}" + (f" ({sku.slice})" if sku.slice else ""),
        f"{sku.gpu_memory // GIB} GiB",
        str(sku.capability) if sku.capability is not None else NOTHING,
        sku.quota_family or NOTHING,
        "yes" if sku.nvme else NOTHING,
        _usd(sku),
        sku.price_region or NOTHING,
        str(sku.retired) if sku.retired else NOTHING,
    )


def _usd(sku: Sku) -> str:
    return NOTHING if sku.usd_per_hour is None else f"{sku.usd_per_hour:.2f}"
