"""Facts about VM sizes: what the emulator needs of them, and nothing else.

Invariant: sizes and families are looked up without regard to case (and, for families, spaces),
because Azure's own APIs disagree on both.
"""

from collections.abc import Mapping
from datetime import date
from functools import cache
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict

ALL_ZONES = ("1", "2", "3")


class Sku(BaseModel):
    """One VM size; skus.yaml explains the fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    vcpus: int
    memory_gib: float
    family: str
    gpus: int = 0
    vendor: str = ""
    zones: Mapping[str, tuple[str, ...]] = {}
    retired: date | None = None

    @property
    def nvidia_gpus(self) -> int:
        """How many devices the NVIDIA device plugin would advertise."""
        return self.gpus if self.vendor == "NVIDIA" else 0

    def zones_in(self, region: str) -> tuple[str, ...]:
        """Returns the zones that have this size; empty where it is offered without zones."""
        return self.zones.get(region, ALL_ZONES)


@cache
def all_skus() -> dict[str, Sku]:
    """Returns every size by its name in lower case."""
    text = Path(__file__).with_name("skus.yaml").read_text(encoding="utf-8")
    skus = (Sku.model_validate(entry) for entry in yaml.safe_load(text))
    return {sku.name.lower(): sku for sku in skus}


def find_sku(name: str) -> Sku | None:
    """Returns the size called `name`, or None."""
    return all_skus().get(name.lower())


def family_key(name: str) -> str:
    """Returns a family's name in the form in which two spellings compare equal."""
    return name.lower().replace(" ", "")
