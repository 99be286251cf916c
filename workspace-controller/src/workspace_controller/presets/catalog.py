"""The catalogue of presets, read once from `catalog.yaml` and immutable from then on.

Invariant: a malformed entry stops the process at start, naming the entry and the field; no
Workspace ever meets half a preset.
"""

import re
from datetime import timedelta
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from workspace_controller.nearest import nearest
from workspace_controller.quantities import to_bytes


def _duration(text: Any) -> Any:
    """`30m` as a timedelta."""
    match = re.fullmatch(r"(\d+)m", text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"{text!r} is not a duration: write whole minutes, such as 30m")
    return timedelta(minutes=int(match[1]))


Bytes = Annotated[int, BeforeValidator(to_bytes)]
Minutes = Annotated[timedelta, BeforeValidator(_duration)]


class Preset(BaseModel):
    """One model, and what one replica of it needs."""

    model_config = ConfigDict(
        alias_generator=to_camel, frozen=True, extra="forbid", populate_by_name=True
    )

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=63)]
    model: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
    """The repository on the model hub."""
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
    """The commit of that repository."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"]
    disk: Annotated[str, Field(pattern=r"^[1-9]\d*Gi$")]
    """What the node's disk must hold, as a Kubernetes quantity."""
    gpus: Annotated[int, Field(ge=1, le=16)]
    """GPUs that one replica uses."""
    gpu_memory: Bytes
    """GPU memory that one replica needs, in bytes."""
    gpu_memory_each: Bytes
    """Memory that each of its GPUs needs, in bytes; 0 for no such need."""
    readiness_timeout: Minutes
    """How long download and loading may take."""
    context: Annotated[int, Field(ge=1)]
    """Tokens that the model can attend to."""


class Catalog:
    """The presets by name."""

    def __init__(self, presets: tuple[Preset, ...]) -> None:
        """Takes the presets.

        Raises:
            ValueError: two presets share a name.
        """
        self._presets = {preset.name: preset for preset in presets}
        if len(self._presets) != len(presets):
            raise ValueError("two presets of the catalogue share a name")

    @property
    def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        return tuple(sorted(self._presets))

    def find(self, name: str) -> Preset | None:
        """The preset of that name, or None."""
        return self._presets.get(name)

    def nearest(self, name: str) -> str | None:
        """The known name that a mistyped one most likely meant."""
        return nearest(name, self._presets)


@cache
def catalog() -> Catalog:
    """The catalogue that ships with this version."""
    text = files("workspace_controller.presets").joinpath("catalog.yaml").read_text("utf-8")
    return Catalog(tuple(Preset.model_validate(entry) for entry in yaml.safe_load(text)))
