"""The catalogue: every figure of every preset."""

import re
from datetime import timedelta

import pytest
from pydantic import ValidationError

from workspace_controller.presets.catalog import Catalog, Preset, catalog
from workspace_controller.quantities import GIB, to_bytes

PRESETS = {preset.name: preset for preset in catalog().presets}
EVERY = pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)

# What the first releases knew: disk in GiB, minutes to become ready, spread, tuned.
FIRST = """
falcon-7b                   50 30 no  tuned
falcon-7b-instruct          50 30 no  -
falcon-40b                 400 38 no  tuned
falcon-40b-instruct        400 38 no  -
llama-2-7b                  34 10 no  -
llama-2-13b                 46 20 yes -
llama-2-70b                158 30 yes -
llama-2-7b-chat             34 10 no  -
llama-2-13b-chat            46 20 yes -
llama-2-70b-chat           158 30 yes -
mistral-7b                 100 30 yes tuned
mistral-7b-instruct        100 30 yes -
phi-2                       50 30 no  tuned
phi-3-mini-4k-instruct      50 30 yes tuned
phi-3-mini-128k-instruct    50 30 yes tuned
phi-3-medium-4k-instruct   106 30 yes tuned
phi-3-medium-128k-instruct 106 30 yes tuned
"""

# Later models by hub id: weights in GiB, bytes of KV cache for a token, context, minutes.
LATER = """
microsoft/phi-4                             27.31 204800  16384 30
microsoft/Phi-4-mini-instruct                7.15 131072 131072 30
microsoft/Phi-3.5-mini-instruct              7.12 393216 131072 30
deepseek-ai/DeepSeek-R1-Distill-Llama-8B    14.96 131072 131072 30
deepseek-ai/DeepSeek-R1-Distill-Qwen-14B    27.51 196608 131072 30
deepseek-ai/DeepSeek-R1-0528               641.30  70272 163840 180
deepseek-ai/DeepSeek-V3-0324               641.30  70272 163840 180
Qwen/Qwen2.5-Coder-7B-Instruct              14.19  57344  32768 30
Qwen/Qwen2.5-Coder-32B-Instruct             61.03 262144  32768 33
Qwen/Qwen3-8B-AWQ                            5.68 147456  40960 30
Qwen/Qwen3.5-2B                              4.24  49152 262144 30
Qwen/Qwen3.5-4B                              8.68 131072 262144 30
Qwen/Qwen3.5-9B                             17.98 131072 262144 30
Qwen/Qwen3.6-27B                            51.75 262144 262144 31
Qwen/Qwen3.6-35B-A3B                        66.97  81920 262144 35
openai/gpt-oss-20b                          12.82  49152 131072 30
openai/gpt-oss-120b                         60.77  73728 131072 51
meta-llama/Llama-3.1-8B-Instruct            14.96 131072 131072 30
meta-llama/Llama-3.3-70B-Instruct          131.42 327680 131072 54
mistralai/Mistral-7B-v0.3                   13.50 131072  32768 30
mistralai/Mistral-7B-Instruct-v0.3          13.50 131072  32768 30
mistralai/Ministral-3-3B-Instruct-2512       4.35 106496 262144 30
mistralai/Ministral-3-8B-Instruct-2512       9.70 139264 262144 30
mistralai/Ministral-3-14B-Instruct-2512     14.65 163840 262144 30
google/gemma-3-4b-it                         8.01 139264 131072 30
google/gemma-3-27b-it                       51.10 507904 131072 31
google/gemma-4-E2B-it                        9.54  35840 131072 30
google/gemma-4-E4B-it                       14.89  86016 131072 30
google/gemma-4-12B-it                       22.28 393216 262144 30
google/gemma-4-26B-A4B-it                   48.07 245760 262144 30
google/gemma-4-31B-it                       58.25 983040 262144 32
nvidia/NVIDIA-Nemotron-Nano-9B-v2           16.56 229376 131072 30
nvidia/NVIDIA-Nemotron-3-Nano-4B-BF16        7.40 172032 262144 30
nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16  58.82  53248 262144 33
nvidia/Nemotron-Cascade-2-30B-A3B           58.82  53248 262144 33
nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-BF16 230.25 90112 262144 84
ibm-granite/granite-4.1-8b                  16.38 163840 131072 30
"""


def rows(table: str) -> list[list[str]]:
    return [line.split() for line in table.strip().splitlines()]


@pytest.mark.parametrize("row", rows(FIRST), ids=lambda row: row[0])
def test_presets_of_the_first_releases_keep_their_figures(row: list[str]) -> None:
    name, disk, minutes, spread, tuned = row
    preset = PRESETS[name]
    assert preset.disk == f"{disk}Gi"
    assert preset.readiness_timeout == timedelta(minutes=int(minutes))
    assert preset.distributed == (spread == "yes")
    assert (preset.tuning is not None) == (tuned == "tuned")


@pytest.mark.parametrize("row", rows(LATER), ids=lambda row: row[0])
def test_later_presets_have_the_figures_of_their_models(row: list[str]) -> None:
    model, weights, kv, context, minutes = row
    preset = catalog().find(model)
    assert preset is not None
    assert preset.model == model
    assert preset.weights == to_bytes(f"{weights}Gi")
    assert preset.kv_per_token == int(kv)
    assert preset.context_tokens == int(context)
    assert preset.readiness_timeout == timedelta(minutes=int(minutes))
    assert preset.distributed


def test_every_model_that_may_be_tuned_is_meant_to_be() -> None:
    assert {name for name, preset in PRESETS.items() if preset.tuning is not None} == {
        *("falcon-7b", "falcon-40b", "mistral-7b", "phi-2", "phi-4", "phi-4-mini-instruct"),
        *("phi-3-mini-4k-instruct", "phi-3-mini-128k-instruct", "phi-3.5-mini-instruct"),
        *("phi-3-medium-4k-instruct", "phi-3-medium-128k-instruct"),
        *("qwen2.5-coder-7b-instruct", "qwen2.5-coder-32b-instruct"),
    }


@EVERY
def test_the_disk_holds_weights_image_and_system(preset: Preset) -> None:
    # 20 GiB: an image of about 10 GiB, and the system.
    assert to_bytes(preset.disk) >= preset.weights + 20 * GIB
    if preset.tuning is not None:
        assert to_bytes(preset.tuning.disk) >= preset.weights + 20 * GIB


@EVERY
def test_the_timeout_leaves_time_to_download(preset: Preset) -> None:
    minutes = preset.readiness_timeout / timedelta(minutes=1)
    assert 10 <= minutes <= 180
    # 18 seconds a GiB, 60 MB/s; what comes in an image is there already.
    if preset.access != "private":
        assert minutes >= min(180, int(15 + preset.weights / GIB * 18 / 60))


@EVERY
def test_sizes_are_those_of_a_model(preset: Preset) -> None:
    assert 1 * GIB < preset.weights < 1024 * GIB
    assert 1024 <= preset.kv_per_token <= 2**20
    assert 2048 <= preset.context_tokens <= 2**20


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("mistral-7b", 7_248),
        ("phi-2", 2_780),
        ("phi-3-mini-4k-instruct", 3_821),
        ("phi-3-medium-128k-instruct", 13_960),
        ("phi-4", 14_660),
        ("phi-4-mini-instruct", 3_836),
        ("qwen2.5-coder-7b-instruct", 7_616),
        ("qwen2.5-coder-32b-instruct", 32_764),
        ("falcon-7b", 7_217),
        ("falcon-40b", 41_836),
    ],
)
def test_weights_in_16_bits_are_two_bytes_a_parameter(name: str, millions: int) -> None:
    assert PRESETS[name].weights == pytest.approx(2e6 * millions, rel=0.005)


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if preset.tuning])
def test_the_sizes_of_tuned_models_add_up_to_their_weights(name: str) -> None:
    sizes = PRESETS[name].tuning
    assert sizes is not None
    gated = 2 if name.startswith(("falcon", "phi-2")) else 3  # matrices of the feed-forward part
    kv_width = PRESETS[name].kv_per_token // (4 * sizes.layers)
    attention = 2 * sizes.hidden * (sizes.hidden + kv_width)
    layer = attention + gated * sizes.hidden * sizes.feed_forward
    embeddings = (1 if sizes.tied_embeddings else 2) * sizes.vocabulary * sizes.hidden
    parameters = sizes.layers * layer + embeddings
    assert 2 * parameters == pytest.approx(PRESETS[name].weights, rel=0.01)


def test_licences_decide_who_may_download() -> None:
    by_access = {access: set() for access in ("public", "gated", "private")}  # type: dict[str, set[str]]
    for preset in PRESETS.values():
        by_access[preset.access].add(preset.family)
    assert by_access["private"] == {"llama-2"}
    assert by_access["gated"] == {"llama-3", "gemma"}
    assert PRESETS["gemma-4-12b-it"].access == "public"


def test_a_revision_is_a_commit_or_is_not_claimed_at_all() -> None:
    unpinned = {name for name, preset in PRESETS.items() if preset.revision is None}
    assert all("llama-2" not in name for name in PRESETS.keys() - unpinned)
    assert {PRESETS[name].family for name in unpinned} == {
        *("llama-2", "ministral", "qwen3.5", "deepseek", "gemma", "nemotron", "granite")
    }
    pinned = [preset.revision for preset in PRESETS.values() if preset.revision]
    assert len(set(pinned)) == len(pinned)
    assert all(re.search("[a-f]", commit) and re.search(r"\d", commit) for commit in pinned)


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("microsoft/phi-4", "phi-4"),
        ("microsoft/Phi-4-mini-instruct", "phi-4-mini-instruct"),
        ("Phi-4", "phi-4"),
        ("mistral-7b-v0.3", "mistral-7b"),
        ("mistralai/mistral-7b-instruct-v0.3", "mistral-7b-instruct"),
        ("gemma-3-4b-instruct", "gemma-3-4b-it"),
        ("gemma-3-27b-instruct", "gemma-3-27b-it"),
        ("ministral-3-8b-instruct", "ministral-3-8b-instruct"),
        ("Ministral-3-8B-Instruct-2512", "ministral-3-8b-instruct"),
    ],
)
def test_earlier_and_longer_names_mean_the_same_model(typed: str, name: str) -> None:
    found = catalog().find(typed)
    assert found is not None
    assert found.name == name


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("phi3-mini-4k-instruct", "phi-3-mini-4k-instruct"),
        ("llama-3.1-8b", "llama-3.1-8b-instruct"),
        ("microsoft/phi4", "microsoft/phi-4"),
        ("zzz", None),
    ],
)
def test_a_mistyped_name_finds_its_neighbour(typed: str, meant: str | None) -> None:
    assert catalog().find(typed) is None
    assert catalog().nearest(typed) == meant


ENTRY = {
    "name": "m",
    "family": "f",
    "model": "a/b",
    "weights": "1Gi",
    "kvPerToken": "1Ki",
    "contextTokens": 1,
    "disk": "1Gi",
    "readinessTimeout": "1m",
}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("disk", "400"),
        ("disk", 400),
        ("weights", "9GB"),
        ("weights", "9"),
        ("weights", "0Gi"),
        ("kvPerToken", 8192),
        ("kvPerToken", "8192"),
        ("readinessTimeout", "half an hour"),
        ("readinessTimeout", 30),
        ("revision", "main"),
        ("model", "phi-3"),
        ("gpus", 0),
        ("access", "secret"),
        ("engines", []),
        ("capability", 7.0),
        ("tuning", {"disk": "10Gi"}),
        ("trustRemoteCode", True),
    ],
)
def test_a_malformed_entry_names_its_field(field: str, value: object) -> None:
    Preset.model_validate(ENTRY)
    with pytest.raises(ValidationError, match=field):
        Preset.model_validate(ENTRY | {field: value})


@pytest.mark.parametrize(
    "other", [{}, {"name": "b", "model": "c/d"}, {"name": "n", "aliases": ["m"]}]
)
def test_a_name_stands_for_one_preset(other: dict[str, object]) -> None:
    first = Preset.model_validate(ENTRY)
    second = Preset.model_validate(ENTRY | {"model": "x/y"} | other)
    with pytest.raises(ValueError, match="share a name"):
        Catalog((first, second))
