"""Chooses the machine size for a model, and says which others would do.

Invariant: never chosen is what does not fit, is retired, has no price, or cannot run the runtime
image; the same preset, table and day give the same choice, with a sentence that says why.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from operator import attrgetter

from workspace_controller.presets.catalog import Engine, Method, Preset
from workspace_controller.skus.fit import Fit, fit
from workspace_controller.skus.table import Sku, SkuTable
from workspace_controller.skus.tuning import TuningFit, fit_tuning

Merit = tuple[bool, bool]
"""Whether vLLM cannot serve there, and whether the weights' format is emulated: the lesser wins."""
Trial = Callable[[Sku], Merit | None]
"""How well a size does for a model; None when it does not fit."""


@dataclass(frozen=True)
class Choice:
    """A machine size, and why this one."""

    sku: Sku
    reason: str
    """One sentence for the person who left the size out."""


def serving(preset: Preset, *, nodes: int = 1, engine: Engine | None = None) -> Trial:
    """Tries sizes for serving a preset with all `nodes` machines."""

    def trial(sku: Sku) -> Merit | None:
        how = fit(preset, sku, nodes=nodes, engine=engine)
        if not isinstance(how, Fit):
            return None
        return how.engine != "vllm", preset.dtype == "bfloat16" and not sku.bfloat16

    return trial


def tuning(preset: Preset, method: Method) -> Trial:
    """Tries sizes for tuning a preset, which computes in bfloat16 whatever the weights are in."""

    def trial(sku: Sku) -> Merit | None:
        how = fit_tuning(preset, method, sku)
        if not isinstance(how, TuningFit) or how.tight:
            return None
        return False, not sku.bfloat16

    return trial


def choose(
    preset: Preset, table: SkuTable, today: date, trial: Trial, *, nodes: int = 1
) -> Choice | None:
    """The size that costs least for all `nodes` machines; None when no priced size does.

    What does a model better comes first: see `Merit`.
    """
    found = [sku for sku in ranked(preset, table, today, trial) if sku.usd_per_hour is not None]
    return Choice(found[0], _reason(preset, table, found, nodes)) if found else None


def ranked(preset: Preset, table: SkuTable, today: date, trial: Trial) -> list[Sku]:
    """All sizes in service on which the preset runs, the best first, those without price last."""
    found: list[tuple[Merit, float, str, Sku]] = []
    for sku in _in_service(table, today):
        merit = trial(sku) if (sku.capability or 0) >= preset.capability else None
        if merit is not None:
            price = math.inf if sku.usd_per_hour is None else sku.usd_per_hour
            found.append((merit, price, sku.name, sku))
    return [sku for *_, sku in sorted(found, key=lambda each: each[:3])]


def successor(sku: Sku, table: SkuTable, today: date) -> Sku | None:
    """The cheapest size in service that offers at least what a retired one did, per GPU and in all."""
    able = [
        each
        for each in _in_service(table, today)
        if each.usd_per_hour is not None
        and each.vendor == sku.vendor
        and each.gpu_memory >= sku.gpu_memory
        and each.gpus >= sku.gpus
        and (each.capability or 0) >= (sku.capability or 0)
    ]
    return min(able, key=attrgetter("usd_per_hour", "name"), default=None)


def _in_service(table: SkuTable, today: date) -> Iterable[Sku]:
    """Sizes that the cloud makes and that can run the image, under their own names."""
    return (
        sku
        for sku in table.skus
        if sku.in_service(today) and sku.runs_images and sku.alias_of is None
    )


def _reason(preset: Preset, table: SkuTable, found: Sequence[Sku], nodes: int) -> str:
    chosen, *others = found
    price = chosen.usd_per_hour or 0
    cheaper = [sku for sku in others if (sku.usd_per_hour or 0) < price]
    dearer = [sku for sku in others if sku not in cheaper]
    total = f"{_usd(price)} USD an hour in {chosen.price_region}"
    if nodes > 1:
        total = f"{nodes} x {total}, {_usd(nodes * price)} in all"
    if table.prices_as_of:
        total += f" (list price of {table.prices_as_of})"
    best = (
        f"the cheapest of the {len(found)} sizes in service that fit {preset.name}"
        if not cheaper
        else f"the cheapest size in service that runs {preset.name} with the faster engine in its "
        f"own number format, which {_named(cheaper)} cannot"
    )
    return f"{chosen} is {best}: {total}" + (f". Next: {_named(dearer)}" if dearer else "")


def _named(skus: Sequence[Sku], most: int = 2) -> str:
    return " and ".join(f"{sku.name} at {_usd(sku.usd_per_hour or 0)}" for sku in skus[:most])


def _usd(amount: float) -> str:
    return f"{amount:.3f}".rstrip("0").rstrip(".")
