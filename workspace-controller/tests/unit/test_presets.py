"""The catalogue: every figure of every preset."""

from datetime import timedelta

import pytest
from pydantic import ValidationError

from workspace_controller.presets.catalog import Catalog, Preset, catalog
from workspace_controller.quantities import GIB

PHI = {
    "dtype": "auto",
    "disk": "50Gi",
    "gpus": 1,
    "gpu_memory": 9 * GIB,
    "gpu_memory_each": 0,
    "readiness_timeout": timedelta(minutes=30),
}
FALCON = PHI | {"dtype": "bfloat16", "gpu_memory": 14 * GIB, "context": 2048}
FIGURES = {
    "phi-3-mini-4k-instruct": PHI
    | {
        "model": "microsoft/Phi-3-mini-4k-instruct",
        "revision": "d269012bea6fbe38ce7752c8940fea010eea3383",
        "context": 4096,
    },
    "phi-3-mini-128k-instruct": PHI
    | {
        "model": "microsoft/Phi-3-mini-128k-instruct",
        "revision": "5be6479b4bc06a081e8f4c6ece294241ccd32dec",
        "context": 131072,
    },
    "falcon-7b": FALCON
    | {"model": "tiiuae/falcon-7b", "revision": "ec89142b67d748a1865ea4451372db8313ada0d8"},
    "falcon-7b-instruct": FALCON
    | {
        "model": "tiiuae/falcon-7b-instruct",
        "revision": "8782b5c5d8c9290412416618f36a133653e85285",
    },
}

ENTRY = {
    "name": "m",
    "model": "a/b",
    "revision": "0" * 40,
    "dtype": "auto",
    "disk": "1Gi",
    "gpus": 1,
    "gpuMemory": "1Gi",
    "gpuMemoryEach": "0",
    "readinessTimeout": "1m",
    "context": 1,
}


def test_every_preset_is_checked_here() -> None:
    assert set(catalog().names) == set(FIGURES)


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_right(name: str) -> None:
    found = catalog().find(name)
    assert found is not None
    assert found.model_dump() == {"name": name} | FIGURES[name]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("phi3-mini-4k-instruct", "phi-3-mini-4k-instruct"),
        ("Falcon-7B", "falcon-7b"),
        ("gpt", None),
    ],
)
def test_a_mistyped_name_finds_its_neighbour(typed: str, meant: str | None) -> None:
    assert catalog().nearest(typed) == meant


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("disk", "400"),
        ("gpuMemory", "9GB"),
        ("readinessTimeout", "half an hour"),
        ("readinessTimeout", 30),
        ("revision", "main"),
        ("model", "phi-3"),
        ("gpus", 0),
        ("color", "blue"),
    ],
)
def test_a_malformed_entry_names_its_field(field: str, value: object) -> None:
    with pytest.raises(ValidationError, match=field):
        Preset.model_validate(ENTRY | {field: value})


def test_a_name_stands_for_one_preset() -> None:
    preset = Preset.model_validate(ENTRY)
    with pytest.raises(ValueError, match="share a name"):
        Catalog((preset, preset))
