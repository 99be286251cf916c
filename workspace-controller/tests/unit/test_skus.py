"""Machine sizes: the facts, what fits, and what is cheapest."""

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from workspace_controller.presets.catalog import Preset, catalog
from workspace_controller.quantities import GIB
from workspace_controller.skus.fit import cheapest, misfits, suggestions
from workspace_controller.skus.table import Sku, sku_table

TODAY = date(2026, 11, 24)


def sku(name: str, cloud: str = "azure") -> Sku:
    found = sku_table(cloud).find(name)
    assert found is not None, name
    return found


def preset(name: str = "falcon-7b", **changes: Any) -> Preset:
    found = catalog().find(name)
    assert found is not None
    return found.model_copy(update=changes)


# The sizes that earlier releases knew: GPUs and the memory of all of them in GiB.
KNOWN = [
    "NC6",
    "1/12",
    "NC12",
    "2/24",
    "NC24",
    "4/48",
    "NC24r",
    "4/48",
    "NV6",
    "1/8",
    "NV12",
    "2/16",
    "NV24",
    "4/32",
    "NV12s_v3",
    "1/8",
    "NV24s_v3",
    "2/16",
    "NV48s_v3",
    "4/32",
    "ND6s",
    "1/24",
    "ND12s",
    "2/48",
    "ND24s",
    "4/96",
    "ND24rs",
    "4/96",
    "NC6s_v2",
    "1/16",
    "NC12s_v2",
    "2/32",
    "NC24s_v2",
    "4/64",
    "NC24rs_v2",
    "4/64",
    "NC6s_v3",
    "1/16",
    "NC12s_v3",
    "2/32",
    "NC24s_v3",
    "4/64",
    "NC24rs_v3",
    "4/64",
    "ND40rs_v2",
    "8/256",
    "NC4as_T4_v3",
    "1/16",
    "NC8as_T4_v3",
    "1/16",
    "NC16as_T4_v3",
    "1/16",
    "NC64as_T4_v3",
    "4/64",
    "ND96asr_v4",
    "8/320",
    "ND96amsr_A100_v4",
    "8/640",
    "NC24ads_A100_v4",
    "1/80",
    "NC48ads_A100_v4",
    "2/160",
    "NC96ads_A100_v4",
    "4/320",
    "NV6ads_A10_v5",
    "1/4",
    "NV12ads_A10_v5",
    "1/8",
    "NV18ads_A10_v5",
    "1/12",
    "NV36ads_A10_v5",
    "1/24",
    "NV36adms_A10_v5",
    "1/24",
    "NV72ads_A10_v5",
    "2/48",
    "ND96asr_A100_v4",
    "8/320",
    "NC40ads_H100_v5",
    "1/94",
    "NC80adis_H100_v5",
    "2/188",
    "ND96isr_H100_v5",
    "8/640",
    "NCC40ads_H100_v5",
    "1/94",
    "ND96isr_H200_v5",
    "8/1128",
    "NG32ads_V620_v1",
    "1/32",
    "NG32adms_V620_v1",
    "1/32",
]


@pytest.mark.parametrize(("name", "figures"), list(zip(KNOWN[::2], KNOWN[1::2], strict=True)))
def test_every_size_of_earlier_releases_is_known(name: str, figures: str) -> None:
    found = sku(f"Standard_{name}")
    assert f"{found.gpus}/{found.gpus * found.gib:g}" == figures


def test_names_are_unique_within_a_cloud() -> None:
    for cloud in ("azure", "aws", "arc"):
        names = [each.name.lower() for each in sku_table(cloud).skus]
        assert len(names) == len(set(names))


def test_a_size_is_found_without_regard_to_case() -> None:
    assert sku("standard_nc6S_V3").name == "Standard_NC6s_v3"


@pytest.mark.parametrize(
    ("typed", "meant"), [("Standard_NC6sv3", "Standard_NC6s_v3"), ("banana", None)]
)
def test_a_mistyped_size_finds_its_neighbour(typed: str, meant: str | None) -> None:
    assert sku_table("azure").nearest(typed) == meant


def test_only_azure_takes_sizes_that_we_do_not_know() -> None:
    assert sku_table("azure").may_exist("Standard_NC99_v9")
    assert not sku_table("azure").may_exist("Standard_D4s_v5")
    assert not sku_table("aws").may_exist("p9.24xlarge")


def test_bfloat16_begins_with_ampere() -> None:
    assert not sku("Standard_NC6s_v3").bfloat16
    assert sku("Standard_NC24ads_A100_v4").bfloat16
    assert not sku("Standard_NG32ads_V620_v1").bfloat16


@pytest.mark.parametrize(
    ("size", "changes", "complaint"),
    [
        ("Standard_NC6s_v3", {}, None),
        ("Standard_NC4as_T4_v3", {"gpu_memory": 16 * GIB}, None),
        ("Standard_NC4as_T4_v3", {"gpu_memory": 16 * GIB + 1}, "of GPU memory"),
        ("Standard_NV12ads_A10_v5", {}, "needs 14 GiB of GPU memory"),
        ("Standard_NC64as_T4_v3", {"gpu_memory": 30 * GIB}, "gives it 16 GiB"),
        ("Standard_NC64as_T4_v3", {"gpus": 2, "gpu_memory": 30 * GIB}, None),
        ("Standard_NC6s_v3", {"gpus": 2}, "needs 2 GPUs"),
        ("Standard_NC64as_T4_v3", {"gpu_memory_each": 19 * GIB}, "on each GPU"),
        ("Standard_NG32ads_V620_v1", {}, "AMD GPUs"),
    ],
)
def test_a_preset_fits_by_the_bytes_that_its_pod_gets(
    size: str, changes: dict[str, Any], complaint: str | None
) -> None:
    found = misfits(preset(**changes), sku(size))
    assert (complaint in "; ".join(found)) if complaint else found == ()


def test_the_cheapest_size_in_service_is_chosen() -> None:
    chosen = cheapest(preset(dtype="auto"), sku_table("azure"), TODAY)
    assert chosen is not None
    assert chosen.name == "Standard_NC4as_T4_v3"


def test_weights_in_bfloat16_get_a_gpu_that_computes_in_it_if_one_is_to_be_had() -> None:
    chosen = cheapest(preset(dtype="bfloat16"), sku_table("azure"), TODAY)
    assert chosen is not None
    assert chosen.name == "Standard_NV36ads_A10_v5"

    azure = sku_table("azure")
    old = replace(azure, skus=tuple(each for each in azure.skus if not each.bfloat16))
    chosen = cheapest(preset(dtype="bfloat16"), old, TODAY)
    assert chosen is not None
    assert chosen.name == "Standard_NC4as_T4_v3"


def test_a_retired_size_is_not_chosen_whatever_it_costs() -> None:
    for size in filter(lambda size: size.nvidia and size.gib <= 141, sku_table("azure").skus):
        chosen = cheapest(preset(gpu_memory=int(size.gib) * GIB), sku_table("azure"), TODAY)
        assert chosen is not None
        assert chosen.retired is None or chosen.retired > TODAY


def test_nothing_is_chosen_where_nothing_fits_or_has_a_price() -> None:
    assert cheapest(preset(gpus=16), sku_table("azure"), TODAY) is None
    assert cheapest(preset(), sku_table("aws"), TODAY) is None


def test_suggestions_begin_with_the_cheapest() -> None:
    assert suggestions(preset(), sku_table("azure"), TODAY, limit=2) == (
        "Standard_NC4as_T4_v3",
        "Standard_NC8as_T4_v3",
    )
    assert suggestions(preset(), sku_table("aws"), TODAY)


def test_a_size_reads_well() -> None:
    assert str(sku("Standard_NC6s_v3")) == "Standard_NC6s_v3 (1 x V100, 16 GiB each)"
