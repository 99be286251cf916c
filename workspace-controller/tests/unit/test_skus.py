"""Machine sizes: the facts."""

from datetime import date

import pytest
from pydantic import ValidationError

from workspace_controller.quantities import GIB
from workspace_controller.skus.table import Sku, sku_table

AZURE = sku_table("azure")


def sku(name: str, cloud: str = "azure") -> Sku:
    found = sku_table(cloud).find(name)
    assert found is not None, name
    return found


# The sizes that earlier releases knew: GPUs and the memory of all of them in GiB.
KNOWN = """
NC6                1/12
NC12               2/24
NC24               4/48
NC24r              4/48
NV6                1/8
NV12               2/16
NV24               4/32
NV12s_v3           1/8
NV24s_v3           2/16
NV48s_v3           4/32
ND6s               1/24
ND12s              2/48
ND24s              4/96
ND24rs             4/96
NC6s_v2            1/16
NC12s_v2           2/32
NC24s_v2           4/64
NC24rs_v2          4/64
NC6s_v3            1/16
NC12s_v3           2/32
NC24s_v3           4/64
NC24rs_v3          4/64
ND40rs_v2          8/256
NC4as_T4_v3        1/16
NC8as_T4_v3        1/16
NC16as_T4_v3       1/16
NC64as_T4_v3       4/64
ND96asr_v4         8/320
ND96amsr_A100_v4   8/640
NC24ads_A100_v4    1/80
NC48ads_A100_v4    2/160
NC96ads_A100_v4    4/320
NV6ads_A10_v5      1/4
NV12ads_A10_v5     1/8
NV18ads_A10_v5     1/12
NV36ads_A10_v5     1/24
NV36adms_A10_v5    1/24
NV72ads_A10_v5     2/48
ND96asr_A100_v4    8/320
NC40ads_H100_v5    1/94
NC80adis_H100_v5   2/188
ND96isr_H100_v5    8/640
NCC40ads_H100_v5   1/94
ND96isr_H200_v5    8/1128
NG32ads_V620_v1    1/32
NG32adms_V620_v1   1/32
"""


@pytest.mark.parametrize("row", KNOWN.strip().splitlines(), ids=lambda row: row.split()[0])
def test_every_size_of_earlier_releases_is_known(row: str) -> None:
    name, figures = row.split()
    found = sku(f"Standard_{name}")
    assert f"{found.gpus}/{found.total_gpu_memory / GIB:g}" == figures


def test_all_74_sizes_of_azure_are_known_measured_or_not() -> None:
    assert (len(AZURE.skus), len(AZURE.unmeasured)) == (61, 13)


@pytest.mark.parametrize("size", [*AZURE.skus, *AZURE.unmeasured], ids=lambda size: size.name)
def test_the_facts_of_a_size_hang_together(size: Sku) -> None:
    assert size.name.startswith("Standard_N")
    assert (size.capability is not None) == size.nvidia
    assert (size.usd_per_hour is not None) == (size.price_region is not None)
    if size.usd_per_hour is not None:
        assert 0.2 < size.usd_per_hour < 150
    if size.alias_of is not None:
        assert AZURE.find(size.alias_of) is not None
    elif size.name != "Standard_ND128isrG5_GB300_v6":  # in the documentation, in no listing yet
        assert size.quota_family is not None
        assert "family" in size.quota_family.lower()
        assert size.vcpus is not None
        assert str(size.vcpus) in size.name or size.retired or "ND" in size.name


@pytest.mark.parametrize("size", AZURE.skus, ids=lambda size: size.name)
def test_a_slice_is_that_much_of_a_card(size: Sku) -> None:
    cards = {"A10": 24, "Radeon PRO V620": 32, "Radeon PRO V710": 24, "Radeon Instinct MI25": 16}
    if size.slice is not None:
        assert size.gpus == 1
        parts = int(size.slice.removeprefix("1/"))
        assert size.gpu_memory == cards[size.gpu] * GIB // parts


def test_names_are_unique_within_a_cloud() -> None:
    for cloud in ("azure", "aws", "arc"):
        table = sku_table(cloud)
        names = [each.name.lower() for each in (*table.skus, *table.unmeasured)]
        assert len(names) == len(set(names))


def test_a_size_is_found_without_regard_to_case() -> None:
    assert sku("standard_nc6S_V3").name == "Standard_NC6s_v3"


def test_a_size_whose_gpus_nobody_states_is_known_but_not_measured() -> None:
    assert AZURE.find("Standard_NC8ads_A10_v4") is None
    found = AZURE.find_unmeasured("standard_nc8ads_a10_v4")
    assert found is not None
    assert found.name == "Standard_NC8ads_A10_v4"
    assert AZURE.find_unmeasured("Standard_NC6s_v3") is None


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("Standard_NC6sv3", "Standard_NC6s_v3"),
        ("Standard_NC8ads_A10v4", "Standard_NC8ads_A10_v4"),
        ("banana", None),
    ],
)
def test_a_mistyped_size_finds_its_neighbour(typed: str, meant: str | None) -> None:
    assert AZURE.nearest(typed) == meant


def test_only_azure_takes_sizes_that_we_do_not_know() -> None:
    assert AZURE.may_exist("Standard_NC99_v9")
    assert not AZURE.may_exist("Standard_D4s_v5")
    assert not sku_table("aws").may_exist("p9.24xlarge")


def test_bfloat16_begins_with_ampere() -> None:
    assert not sku("Standard_NC6s_v3").bfloat16
    assert sku("Standard_NC24ads_A100_v4").bfloat16
    assert not sku("Standard_NG32ads_V620_v1").bfloat16


def test_a_size_is_in_service_until_its_day() -> None:
    size = sku("Standard_NV12s_v3")
    assert size.in_service(date(2026, 9, 29))
    assert not size.in_service(date(2026, 9, 30))


def test_a_size_reads_well() -> None:
    assert str(sku("Standard_NC6s_v3")) == "Standard_NC6s_v3 (1 x V100, 16 GiB each)"


ENTRY = {"name": "Standard_N1", "gpu": "A100", "vendor": "NVIDIA", "gpus": 1, "gpuMemory": "80Gi"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("gpuMemory", "80"),
        ("gpuMemory", 80),
        ("gpus", 0),
        ("vendor", "Nvidia"),
        ("usdPerHour", 0),
        ("retired", "soon"),
        ("slice", "half"),
    ],
)
def test_a_malformed_size_names_its_field(field: str, value: object) -> None:
    Sku.model_validate(ENTRY)
    with pytest.raises(ValidationError, match=field):
        Sku.model_validate(ENTRY | {field: value})
