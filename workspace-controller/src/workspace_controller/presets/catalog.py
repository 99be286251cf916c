"""The catalogue of presets, read once from `catalog.yaml` and immutable from then on.

Invariant: a malformed entry stops the process at start, naming the entry and the field; no
Workspace ever meets half a preset, and no name stands for two.
"""

from collections.abc import Iterable
from functools import cache
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from workspace_controller.datafiles import read
from workspace_controller.nearest import nearest
from workspace_controller.quantities import Minutes, Size

Engine = Literal["vllm", "transformers"]
Access = Literal["public", "gated", "private"]
Method = Literal["lora", "qlora"]
RUNTIME_CAPABILITY: Final = 7.5
"""The least NVIDIA compute capability (Turing) that the runtime's CUDA 13 supports."""
METHODS: Final[tuple[Method, ...]] = ("lora", "qlora")

Bytes = Annotated[Size, Field(gt=0)]
DiskSize = Annotated[str, Field(pattern=r"^[1-9]\d*Gi$")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=63)]
Count = Annotated[int, Field(ge=1)]


class _Entry(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, frozen=True, extra="forbid", populate_by_name=True
    )


class Tuning(_Entry):
    """The sizes of a model from which the memory of fine-tuning it follows."""

    disk: DiskSize
    """What the disk of a node that tunes it must hold, as a Kubernetes quantity."""
    layers: Count
    hidden: Count
    """Width of the residual stream."""
    feed_forward: Count
    """Width of the feed-forward part of a layer."""
    vocabulary: Count
    """Tokens of the embedding."""
    tied_embeddings: bool = False
    """Whether input and output embedding are one matrix."""


class Preset(_Entry):
    """One model: facts about it, from which `skus/fit.py` derives what machine it needs."""

    name: Name
    family: Name
    model: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
    """The repository on the model hub."""
    aliases: tuple[Name, ...] = ()
    """Further names of the preset."""
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = None
    """The commit of that repository; None where the runtime resolves the main branch itself."""
    access: Access = "public"
    """`gated`: downloading takes a token; `private`: the weights come in the user's image."""
    engines: Annotated[tuple[Engine, ...], Field(min_length=1)] = ("vllm", "transformers")
    """The engines that can serve it."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    capability: Annotated[float, Field(ge=RUNTIME_CAPABILITY, le=12)] = RUNTIME_CAPABILITY
    """The least NVIDIA compute capability."""
    weights: Bytes
    """Size of the weights in bytes."""
    kv_per_token: Bytes
    """What the KV cache takes for one token, in bytes."""
    heads: Count | None = None
    """Attention heads; None where no source states them."""
    context_tokens: Count
    """Tokens that the model can attend to."""
    disk: DiskSize
    """What the node's disk must hold, as a Kubernetes quantity."""
    gpus: Annotated[int, Field(ge=1, le=16)] = 1
    """The fewest GPUs of a node that the pod asks for."""
    readiness_timeout: Minutes
    """How long download and loading may take."""
    distributed: bool = False
    """Whether one copy may be spread over several nodes."""
    tuning: Tuning | None = None
    """None: fine-tuning it is not supported."""

    @property
    def all_names(self) -> tuple[str, ...]:
        """Every name that stands for it, the preset's own first."""
        short = self.model.partition("/")[2].lower()
        return tuple(dict.fromkeys((self.name, short, *self.aliases, self.model.lower())))


class Catalog:
    """The presets by name."""

    def __init__(self, presets: Iterable[Preset]) -> None:
        """Takes the presets.

        Raises:
            ValueError: a name stands for two of them.
        """
        self.presets = tuple(presets)
        self._by_name: dict[str, Preset] = {}
        for preset in self.presets:
            for name in preset.all_names:
                other = self._by_name.setdefault(name, preset)
                if other is not preset:
                    raise ValueError(f"{other.name} and {preset.name} share a name: {name}")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all presets without their aliases, sorted."""
        return tuple(sorted(preset.name for preset in self.presets))

    def find(self, name: str) -> Preset | None:
        """The preset of that name, alias or hub id, without regard to case; or None."""
        return self._by_name.get(name.lower())

    def nearest(self, name: str) -> str | None:
        """The known name that a mistyped one most likely meant."""
        return nearest(name, self._by_name)


@cache
def catalog() -> Catalog:
    """The catalogue that ships with this version."""
    entries = read("workspace_controller.presets", "catalog.yaml")
    return Catalog(Preset.model_validate(entry) for entry in entries)
