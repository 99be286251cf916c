"""Two replicas: one acts, and the other takes over."""

import time
from pathlib import Path

import pytest
from provisioner_world.bench import Bench
from provisioner_world.processes import NAMESPACE, AzureProcess, ProvisionerProcess

ELECTED = {"LEADER_ELECT": "true", "LEADER_ELECTION_NAMESPACE": NAMESPACE}


@pytest.fixture
def second(service_account: Path, azure: AzureProcess, tmp_path: Path) -> ProvisionerProcess:
    return ProvisionerProcess(service_account, azure, tmp_path)


async def test_42_one_replica_acts_and_the_other_takes_over(
    bench: Bench, second: ProvisionerProcess
) -> None:
    bench.provisioner.start(**ELECTED)
    first = await bench.create()
    await bench.becomes(first)
    second.start(**ELECTED)
    try:
        assert "pool accepted" not in second.log()
        bench.provisioner.kill()
        begun = time.monotonic()
        name = await bench.create()
        await bench.becomes(name, seconds=40)
        assert time.monotonic() - begun < 30
        assert await bench.puts(name) == [201]
        await bench.delete(first)
        await bench.is_gone(first)
        assert second.stop() == 0
        # A leader that stops in good order hands over at once.
        bench.provisioner.start(**ELECTED)
        begun = time.monotonic()
        await bench.delete(name)
        await bench.is_gone(name)
        assert time.monotonic() - begun < 10
    finally:
        second.stop()
        bench.provisioner.stop()
