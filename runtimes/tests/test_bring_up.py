import asyncio
from pathlib import Path

import pytest
from fake_engine import until
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from runtimes.serving import bring_up
from runtimes.serving.bring_up import Progress
from runtimes.serving.metrics import Metrics
from runtimes.weights import Plan


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return Plan(
        "org/model", "0" * 40, tmp_path, {"a.safetensors": 100_000, "b.safetensors": 100_000}
    )


def value(registry: CollectorRegistry, name: str) -> float:
    found = registry.get_sample_value(f"kaito_model_download_{name}")
    assert found is not None
    return found


async def test_a_download_can_be_followed_by_metrics_and_log(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bring_up, "SAMPLE_SECONDS", 0.01)
    monkeypatch.setattr(bring_up, "LOG_SECONDS", 0.02)
    metrics = Metrics("model")
    progress = Progress(metrics)

    async def reach(name: str, expected: float) -> None:
        async with asyncio.timeout(10):
            await until(lambda: value(metrics.registry, name) == expected)

    with capture_logs() as lines:
        async with asyncio.TaskGroup() as group:
            reporting = group.create_task(progress.run())
            progress.announce(plan)
            await reach("total_bytes", 200_000)
            assert value(metrics.registry, "remaining_seconds") == -1
            (plan.folder / "a.safetensors").write_bytes(b"x" * 100_000)
            await reach("bytes", 100_000)
            assert value(metrics.registry, "speed_bytes_per_second") > 0
            assert value(metrics.registry, "remaining_seconds") > 0
            (plan.folder / "b.safetensors").write_bytes(b"x" * 100_000)
            await progress.loading()
            reporting.cancel()
    assert value(metrics.registry, "bytes") == 200_000
    assert value(metrics.registry, "remaining_seconds") == 0
    assert lines[0] == {
        "event": "downloading",
        "log_level": "info",
        "model": "org/model",
        "commit": "0" * 40,
        "bytes": 200_000,
    }
    assert any(line["event"] == "downloading" and line.get("of") == 200_000 for line in lines[1:])


def test_unfinished_files_count_as_far_as_they_came(plan: Plan) -> None:
    unfinished = plan.folder / ".cache" / "huggingface" / "download"
    unfinished.mkdir(parents=True)
    (unfinished / "x.incomplete").write_bytes(b"x" * 50_000)
    assert plan.arrived() == 50_000
    with (plan.folder / "a.safetensors").open("wb") as sparse:
        sparse.truncate(100_000)
    assert plan.arrived() == 50_000
