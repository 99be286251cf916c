"""Fixtures of the emulator's tests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sandbox.aks.testing import Bench, Starter


@pytest.fixture
def start(tmp_path: Path) -> Starter:
    return Starter.within(tmp_path)


@pytest.fixture
async def bench(start: Starter) -> AsyncIterator[Bench]:
    async with start() as running:
        yield running
