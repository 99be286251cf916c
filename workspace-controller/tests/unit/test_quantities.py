"""Kubernetes quantities, read exactly."""

import pytest

from workspace_controller.quantities import GIB, in_gib, to_bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("400", 400),
        ("9Gi", 9 * GIB),
        ("1.5Gi", 3 * GIB // 2),
        ("1500M", 1_500_000_000),
        ("1k", 1000),
        ("0.0001Ki", 1),
        ("2Ti", 2048 * GIB),
    ],
)
def test_quantities_are_read_exactly(text: str, size: int) -> None:
    assert to_bytes(text) == size


@pytest.mark.parametrize("text", ["", "Gi", "9 Gi", "9GB", "-1Gi", "1e3", "9gi"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        to_bytes(text)


@pytest.mark.parametrize(("size", "text"), [(9 * GIB, "9 GiB"), (15 * GIB // 2, "7.5 GiB")])
def test_sizes_read_well(size: int, text: str) -> None:
    assert in_gib(size) == text
