"""Fixtures of the emulator's tests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sandbox.aks.pki import Pki, ensure_pki
from sandbox.aks.testing import Bench, Starter


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return ensure_pki(tmp_path_factory.mktemp("pki"), ["localhost", "127.0.0.1"])


@pytest.fixture
def start(tmp_path: Path, pki: Pki) -> Starter:
    token_file = tmp_path / "token"
    token_file.write_text("an-assertion")
    return Starter(tmp_path / "state", pki, token_file)


@pytest.fixture
async def bench(start: Starter) -> AsyncIterator[Bench]:
    async with start() as running:
        yield running
