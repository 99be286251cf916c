from pathlib import Path

import pytest

from sandbox.errors import SandboxError
from sandbox.nodes.kubelet import tenancy
from sandbox.nodes.kubelet.settings import Paths


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "mark"


def _sandbox(tmp_path: Path, name: str) -> Paths:
    return Paths(tmp_path / name)


def test_the_first_sandbox_gets_the_host_and_keeps_it(tmp_path: Path, mark: Path) -> None:
    first = _sandbox(tmp_path, "first")

    assert tenancy.former_tenant(first, mark) is None
    assert tenancy.former_tenant(first, mark) is None


def test_a_second_sandbox_is_told_how_to_end_the_first(tmp_path: Path, mark: Path) -> None:
    first, second = _sandbox(tmp_path, "first"), _sandbox(tmp_path, "second")
    tenancy.former_tenant(first, mark)

    with pytest.raises(SandboxError, match=f"SANDBOX_DIR={first.sandbox} make sandbox-down"):
        tenancy.former_tenant(second, mark)


def test_a_sandbox_that_left_makes_room(tmp_path: Path, mark: Path) -> None:
    first, second = _sandbox(tmp_path, "first"), _sandbox(tmp_path, "second")
    tenancy.former_tenant(first, mark)

    tenancy.leave(second, mark)
    tenancy.leave(first, mark)

    assert tenancy.former_tenant(second, mark) is None


def test_a_sandbox_whose_folder_was_deleted_is_named_to_clean_up_behind(
    tmp_path: Path, mark: Path
) -> None:
    first, second = _sandbox(tmp_path, "first"), _sandbox(tmp_path, "second")
    tenancy.former_tenant(first, mark)
    first.folder.rmdir()

    assert tenancy.former_tenant(second, mark) == first.sandbox
    tenancy.leave(first, mark)
    assert tenancy.former_tenant(second, mark) is None
