"""Which machine size is chosen where none is named."""

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workspace_controller.presets.catalog import Engine, Method, Preset, catalog
from workspace_controller.skus.choice import Choice, choose, ranked, serving, successor, tuning
from workspace_controller.skus.fit import Fit, fit
from workspace_controller.skus.table import Sku, SkuTable, sku_table

TODAY = date(2026, 11, 24)
AZURE = sku_table("azure")


def preset(name: str, **changes: Any) -> Preset:
    found = catalog().find(name)
    assert found is not None, name
    return found.model_copy(update=changes)


def choice(
    model: Preset,
    table: SkuTable = AZURE,
    *,
    nodes: int = 1,
    engine: Engine | None = None,
) -> Choice | None:
    trial = serving(model, nodes=nodes, engine=engine)
    return choose(model, table, TODAY, trial, nodes=nodes)


def chosen(model: Preset, table: SkuTable = AZURE, **how: Any) -> str | None:
    found = choice(model, table, **how)
    return found.sku.name if found is not None else None


@pytest.mark.parametrize(
    ("name", "nodes", "size"),
    [
        ("phi-3-mini-128k-instruct", 1, "Standard_NC4as_T4_v3"),
        ("phi-4", 1, "Standard_NC24ads_A100_v4"),
        ("falcon-7b", 1, "Standard_NV36ads_A10_v5"),
        ("llama-3.3-70b-instruct", 1, "Standard_NC80adis_H100_v5"),
        ("llama-3.3-70b-instruct", 2, "Standard_NC40ads_H100_v5"),
        ("llama-3.3-70b-instruct", 3, "Standard_NC24ads_A100_v4"),
        ("gpt-oss-120b", 1, "Standard_NC40ads_H100_v5"),
        ("deepseek-r1-0528", 1, "Standard_ND96isr_H200_v5"),
    ],
)
def test_the_cheapest_size_in_service_is_chosen(name: str, nodes: int, size: str) -> None:
    assert chosen(preset(name), nodes=nodes) == size


def test_weights_in_bfloat16_get_a_gpu_that_computes_in_it_if_one_is_to_be_had() -> None:
    old = replace(AZURE, skus=tuple(each for each in AZURE.skus if not each.bfloat16))
    assert chosen(preset("falcon-7b"), old) == "Standard_NC4as_T4_v3"


def test_an_engine_that_is_asked_for_decides() -> None:
    assert chosen(preset("mistral-7b", dtype="auto"), engine="vllm") == "Standard_NV36ads_A10_v5"
    assert chosen(preset("mistral-7b", dtype="auto"), engine="transformers") == (
        "Standard_NC4as_T4_v3"
    )


def test_every_preset_has_a_size_on_one_node() -> None:
    assert [name for name in catalog().names if chosen(preset(name)) is None] == []


def test_a_size_is_not_chosen_from_the_day_on_which_it_goes() -> None:
    model = preset("phi-3-mini-4k-instruct")
    going = replace(
        AZURE,
        skus=tuple(
            each.model_copy(update={"retired": TODAY}) if each.gpu == "T4" else each
            for each in AZURE.skus
        ),
    )
    assert chosen(model, going) == "Standard_NV36ads_A10_v5"
    found = choose(model, going, TODAY - timedelta(days=1), serving(model))
    assert found is not None
    assert found.sku.name == "Standard_NC4as_T4_v3"


def test_nothing_is_chosen_where_nothing_fits_or_has_a_price() -> None:
    assert chosen(preset("phi-4", gpus=16)) is None
    assert chosen(preset("phi-4"), sku_table("aws")) is None


def test_the_reason_says_why_at_what_price_and_what_else() -> None:
    found = choice(preset("phi-4"))
    assert found is not None
    assert found.reason == (
        "Standard_NC24ads_A100_v4 (1 x A100, 80 GiB each) is the cheapest of the 12 sizes in "
        "service that fit phi-4: 3.673 USD an hour in eastus (list price of 2026-06-18). Next: "
        "Standard_NC64as_T4_v3 at 4.352 and Standard_NV72ads_A10_v5 at 6.52"
    )
    found = choice(preset("falcon-7b"))
    assert found is not None
    assert "which Standard_NC4as_T4_v3 at 0.526 and Standard_NC8as_T4_v3" in found.reason
    found = choice(preset("llama-3.3-70b-instruct"), nodes=2)
    assert found is not None
    assert "2 x 6.98 USD an hour in eastus, 13.96 in all" in found.reason
    assert len(found.reason) <= 1024


def test_all_that_fit_are_ranked_from_the_cheapest_on() -> None:
    model = preset("phi-3-mini-4k-instruct")
    found = ranked(model, AZURE, TODAY, serving(model))
    assert [sku.name for sku in found[:2]] == ["Standard_NC4as_T4_v3", "Standard_NC8as_T4_v3"]
    assert ranked(model, sku_table("aws"), TODAY, serving(model))


@pytest.mark.parametrize(
    ("name", "method", "size"),
    [
        # Tuning computes in bfloat16, which a T4 emulates.
        ("phi-3-mini-128k-instruct", "qlora", "Standard_NV12ads_A10_v5"),
        ("phi-3-mini-128k-instruct", "lora", "Standard_NV18ads_A10_v5"),
        ("phi-4", "lora", "Standard_NC24ads_A100_v4"),
        ("falcon-40b", "qlora", "Standard_NC24ads_A100_v4"),
        # Of the H100s with 94 GiB, 82 are taken.
        ("falcon-40b", "lora", "Standard_NC40ads_H100_v5"),
    ],
)
def test_a_size_is_chosen_for_tuning(name: str, method: Method, size: str) -> None:
    model = preset(name)
    found = choose(model, AZURE, TODAY, tuning(model, method))
    assert found is not None
    assert found.sku.name == size


@pytest.mark.parametrize(
    ("retired", "lives"),
    [
        ("Standard_NC6s_v3", "Standard_NC4as_T4_v3"),
        ("Standard_NC24s_v3", "Standard_NC64as_T4_v3"),
        ("Standard_NV32as_v4", "Standard_NG16ads_V620_v1"),
    ],
)
def test_a_retired_size_has_a_successor_that_offers_as_much(retired: str, lives: str) -> None:
    gone = AZURE.find(retired)
    assert gone is not None
    found = successor(gone, AZURE, TODAY)
    assert found is not None
    assert found.name == lives


presets_ = st.sampled_from(catalog().presets)
tables = st.lists(st.sampled_from(AZURE.skus), max_size=40, unique_by=lambda each: each.name).map(
    lambda skus: replace(AZURE, skus=tuple(skus))
)
nodes_ = st.integers(1, 6)
engines_: st.SearchStrategy[Engine | None] = st.sampled_from([None, "vllm", "transformers"])


def total(size: Sku, nodes: int) -> float:
    return nodes * (size.usd_per_hour or 0)


@given(presets_, tables, nodes_, engines_)
def test_what_is_chosen_fits_is_in_service_and_nothing_like_it_is_cheaper(
    model: Preset, table: SkuTable, nodes: int, engine: Engine | None
) -> None:
    found = choice(model, table, nodes=nodes, engine=engine)
    could = [
        each
        for each in table.skus
        if each.usd_per_hour is not None
        and each.in_service(TODAY)
        and each.runs_images
        and each.alias_of is None
        and (each.capability or 0) >= model.capability
        and isinstance(fit(model, each, nodes=nodes, engine=engine), Fit)
    ]
    if found is None:
        assert could == []
        return
    assert found.sku in could
    trial = serving(model, nodes=nodes, engine=engine)
    alike = [each for each in could if trial(each) == trial(found.sku)]
    assert total(found.sku, nodes) == min(total(each, nodes) for each in alike)


@given(presets_, st.permutations(AZURE.skus), nodes_)
def test_the_order_of_the_table_does_not_matter(model: Preset, skus: list[Sku], nodes: int) -> None:
    shuffled = choice(model, replace(AZURE, skus=tuple(skus)), nodes=nodes)
    assert shuffled == choice(model, nodes=nodes)
