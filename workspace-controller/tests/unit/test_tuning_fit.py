"""What fine-tuning takes of a GPU: against figures worked out by hand."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workspace_controller.presets.catalog import METHODS, Method, Preset, catalog
from workspace_controller.quantities import GIB
from workspace_controller.skus.fit import Misfit
from workspace_controller.skus.table import Sku, sku_table
from workspace_controller.skus.tuning import TuningFit, TuningRun, fit_tuning, tuning_need

TUNED = [preset for preset in catalog().presets if preset.tuning is not None]


def sku(name: str, **changes: Any) -> Sku:
    found = sku_table("azure").find(name)
    assert found is not None, name
    return found.model_copy(update=changes)


def preset(name: str) -> Preset:
    found = catalog().find(name)
    assert found is not None, name
    return found


@pytest.mark.parametrize(
    ("name", "method", "gib"),
    [
        # By hand: 2.1 for weights, 0.2 adapter, 0.2 activations, 0.4 logits, 1.5; in bfloat16 7.1.
        ("phi-3-mini-128k-instruct", "qlora", 4.4),
        ("phi-3-mini-128k-instruct", "lora", 9.4),
        ("mistral-7b", "qlora", 6.4),
        ("phi-4", "lora", 30.9),
        ("qwen2.5-coder-32b-instruct", "lora", 66.0),
    ],
)
def test_tuning_takes_so_much(name: str, method: Method, gib: float) -> None:
    assert tuning_need(preset(name), method) / GIB == pytest.approx(gib, abs=0.06)


def test_a_16_gib_card_tunes_phi_3_mini_either_way() -> None:
    for method in METHODS:
        found = fit_tuning(preset("phi-3-mini-128k-instruct"), method, sku("Standard_NC6s_v3"))
        assert isinstance(found, TuningFit)
        assert not found.tight


def test_the_last_tenth_of_the_memory_is_tight_and_no_refusal() -> None:
    model = preset("phi-2")
    need = tuning_need(model, "lora")
    exactly = fit_tuning(model, "lora", sku("Standard_NC4as_T4_v3", gpu_memory=need))
    assert exactly == TuningFit(need, 1, tight=True)
    less = fit_tuning(model, "lora", sku("Standard_NC4as_T4_v3", gpu_memory=need - 1))
    assert isinstance(less, Misfit)
    assert (less.need, less.has) == (need, need - 1)
    roomy = fit_tuning(model, "lora", sku("Standard_NC4as_T4_v3", gpu_memory=need * 10 // 9 + 1))
    assert roomy == TuningFit(need, 1, tight=False)


@pytest.mark.parametrize(
    ("name", "size", "words"),
    [
        ("falcon-7b-instruct", "Standard_NC24ads_A100_v4", "falcon-7b-instruct may not be tuned"),
        ("phi-2", "Standard_NG32ads_V620_v1", "has AMD GPUs"),
        ("falcon-40b", "Standard_NC48ads_A100_v4", "takes 82.5 GiB of each GPU, and each A100"),
    ],
)
def test_what_does_not_fit_says_why(name: str, size: str, words: str) -> None:
    found = fit_tuning(preset(name), "lora", sku(size))
    assert isinstance(found, Misfit)
    assert words in found.reasons[0]


def test_a_model_that_may_not_be_tuned_has_no_need() -> None:
    with pytest.raises(ValueError, match="may not be tuned"):
        tuning_need(preset("gpt-oss-20b"), "lora")


runs = st.builds(
    TuningRun, rank=st.integers(1, 256), batch=st.integers(1, 64), tokens=st.integers(8, 131_072)
)


@given(st.sampled_from(TUNED), runs)
def test_qlora_takes_less_and_a_larger_run_takes_more(model: Preset, run: TuningRun) -> None:
    assert tuning_need(model, "qlora", run) < tuning_need(model, "lora", run)
    for larger in (
        TuningRun(run.rank + 1, run.batch, run.tokens),
        TuningRun(run.rank, run.batch + 1, run.tokens),
        TuningRun(run.rank, run.batch, run.tokens + 1),
    ):
        assert tuning_need(model, "lora", larger) > tuning_need(model, "lora", run)
