"""Chooses the machine size for a model, and says which others would do.

Invariant: never chosen is what does not fit, is retired, has no price, or cannot run the runtime
image; the same preset, table and day give the same choice, with a sentence that says why.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from operator import attrgetter

from workspace_controller.presets.catalog import Engine, Preset
from workspace_controller.skus.fit import Fit, fit
from workspace_controller.skus.table import Sku, SkuTable


@dataclass(frozen=True)
class Choice:
    """A machine size for a model, and why this one."""

    sku: Sku
    fit: Fit
    reason: str
    """One sentence for the person who left the size out."""


def choose(
    preset: Preset, table: SkuTable, today: date, *, nodes: int = 1, engine: Engine | None = None
) -> Choice | None:
    """The size that costs least for all `nodes` machines; None when no priced size fits.

    A size on which vLLM serves comes before one on which only transformers does; for weights in
    bfloat16, one that computes in it before any that must emulate it.
    """
    found = sorted(_fitting(preset, table, today, nodes, engine), key=_by_merit(preset))
    priced = [each for each in found if each[0].usd_per_hour is not None]
    if not priced:
        return None
    (sku, how), *others = priced
    return Choice(sku, how, _reason(preset, table, sku, [other for other, _ in others], nodes))


def suggestions(
    preset: Preset,
    table: SkuTable,
    today: date,
    *,
    limit: int = 3,
    nodes: int = 1,
    engine: Engine | None = None,
) -> tuple[str, ...]:
    """The names of the best sizes in service that fit, for a message."""
    found = sorted(_fitting(preset, table, today, nodes, engine), key=_by_merit(preset))
    return tuple(sku.name for sku, _ in found[:limit])


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


def _fitting(
    preset: Preset, table: SkuTable, today: date, nodes: int, engine: Engine | None
) -> Iterable[tuple[Sku, Fit]]:
    for sku in _in_service(table, today):
        if sku.nvidia and (sku.capability or 0) < preset.capability:
            continue
        how = fit(preset, sku, nodes=nodes, engine=engine)
        if isinstance(how, Fit):
            yield sku, how


def _by_merit(preset: Preset) -> Callable[[tuple[Sku, Fit]], tuple[bool, bool, float, str]]:
    emulates = preset.dtype == "bfloat16"

    def key(found: tuple[Sku, Fit]) -> tuple[bool, bool, float, str]:
        sku, how = found
        price = math.inf if sku.usd_per_hour is None else sku.usd_per_hour
        return how.engine != "vllm", emulates and not sku.bfloat16, price, sku.name

    return key


def _reason(preset: Preset, table: SkuTable, chosen: Sku, others: Sequence[Sku], nodes: int) -> str:
    price = chosen.usd_per_hour or 0
    cheaper = [sku for sku in others if (sku.usd_per_hour or 0) < price]
    dearer = [sku for sku in others if sku not in cheaper]
    total = f"{_usd(price)} USD an hour in {chosen.price_region}"
    if nodes > 1:
        total = f"{nodes} x {total}, {_usd(nodes * price)} in all"
    if table.prices_as_of:
        total += f" (list price of {table.prices_as_of})"
    best = (
        f"the cheapest of the {len(others) + 1} sizes in service that fit {preset.name}"
        if not cheaper
        else f"the cheapest size in service that serves {preset.name} with vLLM in its own number "
        f"format, which {_named(cheaper)} cannot"
    )
    return f"{chosen} is {best}: {total}" + (f". Next: {_named(dearer)}" if dearer else "")


def _named(skus: Sequence[Sku], most: int = 2) -> str:
    return " and ".join(f"{sku.name} at {_usd(sku.usd_per_hour or 0)}" for sku in skus[:most])


def _usd(amount: float) -> str:
    return f"{amount:.3f}".rstrip("0").rstrip(".")
