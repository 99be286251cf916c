"""The machine sizes we know: GPUs, their memory, what they can compute, what they cost.

Invariant: the table is the file `skus.yaml` and nothing else; a size that is not in it is
unknown, never guessed.
"""

from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib.resources import files
from typing import Annotated, Final

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from workspace_controller.nearest import nearest
from workspace_controller.quantities import GIB

BFLOAT16_CAPABILITY: Final = 8.0
"""The NVIDIA compute capability from which bfloat16 is native (Ampere)."""


class Sku(BaseModel):
    """One machine size."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    gpu: str
    """The GPU's model, such as `A100`."""
    vendor: str
    gpus: Annotated[int, Field(ge=1)]
    gib: Annotated[float, Field(gt=0)]
    """Memory of one GPU in GiB."""
    capability: float | None = None
    nvme: bool = False
    usd: float | None = None
    retired: date | None = None

    @property
    def gpu_memory(self) -> int:
        """Memory of one GPU in bytes."""
        return int(self.gib * GIB)

    @property
    def nvidia(self) -> bool:
        """Whether the size offers `nvidia.com/gpu`."""
        return self.vendor == "NVIDIA"

    @property
    def bfloat16(self) -> bool:
        """Whether the GPU computes in bfloat16 without emulation."""
        return self.capability is not None and self.capability >= BFLOAT16_CAPABILITY

    def __str__(self) -> str:
        return f"{self.name} ({self.gpus} x {self.gpu}, {self.gib:g} GiB each)"


@dataclass(frozen=True)
class SkuTable:
    """The sizes of one cloud, by name without regard to case."""

    cloud: str
    skus: tuple[Sku, ...]
    open_prefixes: tuple[str, ...] = ()
    """Names with one of these are accepted unknown: the cloud adds sizes faster than we do."""

    def find(self, name: str) -> Sku | None:
        """The size of that name, or None when it is not in the table."""
        return next((sku for sku in self.skus if sku.name.lower() == name.lower()), None)

    def may_exist(self, name: str) -> bool:
        """Whether an unknown name is worth trying."""
        return name.startswith(self.open_prefixes) if self.open_prefixes else False

    def nearest(self, name: str) -> str | None:
        """The known name that a mistyped one most likely meant."""
        return nearest(name, (sku.name for sku in self.skus))


@cache
def sku_table(cloud: str) -> SkuTable:
    """The table of a cloud: `azure`, `aws` or `arc`.

    Raises:
        KeyError: no table for that cloud.
    """
    text = files("workspace_controller.skus").joinpath("skus.yaml").read_text(encoding="utf-8")
    tables = TypeAdapter(dict[str, tuple[Sku, ...]]).validate_python(yaml.safe_load(text))
    prefixes = ("Standard_N",) if cloud == "azure" else ()
    return SkuTable(cloud, tables[cloud], prefixes)
