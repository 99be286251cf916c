"""The machine sizes we know: GPUs, their memory, what they can compute, what they cost.

Invariant: the table is the file `skus.yaml` and nothing else; a size that is not in it is
unknown, never guessed.
"""

from dataclasses import dataclass
from datetime import date
from functools import cache, cached_property
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic.alias_generators import to_camel

from workspace_controller.datafiles import read
from workspace_controller.nearest import nearest
from workspace_controller.quantities import Size, in_gib

BFLOAT16_CAPABILITY: Final = 8.0
"""The NVIDIA compute capability from which bfloat16 is native (Ampere)."""
ARM_GPUS: Final = ("GB200", "GB300")
"""GPUs that come with an Arm CPU, for which the runtime image is not built."""


class _Entry(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, frozen=True, extra="forbid", populate_by_name=True
    )


class Unmeasured(_Entry):
    """A size that exists, but of whose GPUs no source says how many or how large they are."""

    name: Annotated[str, Field(max_length=64)]
    gpu: str
    """The GPU's model, such as `A100`."""
    vendor: Literal["NVIDIA", "AMD"]
    capability: Annotated[float, Field(ge=3, le=15)] | None = None
    """NVIDIA's compute capability."""
    vcpus: Annotated[int, Field(ge=1)] | None = None
    quota_family: str | None = None
    """The quota that such machines count against, by their vCPUs."""
    nvme: bool = False
    usd_per_hour: Annotated[float, Field(gt=0)] | None = None
    price_region: str | None = None
    retired: date | None = None
    alias_of: str | None = None
    """The name under which the cloud lists the same machine."""

    @property
    def nvidia(self) -> bool:
        """Whether the size offers `nvidia.com/gpu`."""
        return self.vendor == "NVIDIA"

    def in_service(self, today: date) -> bool:
        """Whether the cloud still makes such machines."""
        return self.retired is None or self.retired > today


class Sku(Unmeasured):
    """One machine size whose GPUs are known."""

    gpus: Annotated[int, Field(ge=1, le=16)]
    gpu_memory: Annotated[Size, Field(gt=0)]
    """Memory of one GPU in bytes."""
    slice: Annotated[str, Field(pattern=r"^1/[2-8]$")] | None = None
    """How much of a card each GPU is; None for a whole one."""

    @property
    def total_gpu_memory(self) -> int:
        """Memory of all its GPUs in bytes."""
        return self.gpus * self.gpu_memory

    @property
    def bfloat16(self) -> bool:
        """Whether the GPU computes in bfloat16 without emulation."""
        return self.capability is not None and self.capability >= BFLOAT16_CAPABILITY

    @property
    def runs_images(self) -> bool:
        """Whether the machine's CPU is of the kind that the runtime image is built for."""
        return self.gpu not in ARM_GPUS

    def __str__(self) -> str:
        return f"{self.name} ({self.gpus} x {self.gpu}, {in_gib(self.gpu_memory)} each)"


class _Cloud(_Entry):
    compiled: date
    prices_as_of: date | None = None
    sources: Annotated[tuple[str, ...], Field(min_length=1)]
    open_prefixes: tuple[str, ...] = ()
    sizes: Annotated[tuple[Sku, ...], Field(min_length=1)]
    unmeasured: tuple[Unmeasured, ...] = ()


@dataclass(frozen=True)
class SkuTable:
    """The sizes of one cloud, by name without regard to case."""

    cloud: str
    skus: tuple[Sku, ...]
    open_prefixes: tuple[str, ...] = ()
    """Names with one of these are accepted unknown: the cloud adds sizes faster than we do."""
    unmeasured: tuple[Unmeasured, ...] = ()
    prices_as_of: date | None = None
    compiled: date = date.min
    """The day on which the sources were read."""
    sources: tuple[str, ...] = ()

    @cached_property
    def _by_name(self) -> dict[str, Unmeasured]:
        return {sku.name.lower(): sku for sku in (*self.unmeasured, *self.skus)}

    def find(self, name: str) -> Sku | None:
        """The size of that name, or None when its GPUs are not in the table."""
        found = self._by_name.get(name.lower())
        return found if isinstance(found, Sku) else None

    def find_unmeasured(self, name: str) -> Unmeasured | None:
        """What is known of a size whose GPUs nobody states, or None."""
        found = self._by_name.get(name.lower())
        return found if not isinstance(found, Sku) else None

    def may_exist(self, name: str) -> bool:
        """Whether an unknown name is worth trying."""
        return name.startswith(self.open_prefixes)

    def nearest(self, name: str) -> str | None:
        """The known name that a mistyped one most likely meant."""
        return nearest(name, (sku.name for sku in self._by_name.values()))


@cache
def sku_table(cloud: str) -> SkuTable:
    """The table of a cloud: `azure`, `aws` or `arc`.

    Raises:
        KeyError: no table for that cloud.
    """
    found = _clouds()[cloud]
    return SkuTable(
        cloud,
        found.sizes,
        found.open_prefixes,
        found.unmeasured,
        found.prices_as_of,
        found.compiled,
        found.sources,
    )


@cache
def _clouds() -> dict[str, _Cloud]:
    text = read("workspace_controller.skus", "skus.yaml")
    return TypeAdapter(dict[str, _Cloud]).validate_python(text)
