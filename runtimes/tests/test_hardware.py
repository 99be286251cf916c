from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from runtimes.engines.processors import cpu_limit
from runtimes.serving import hardware
from runtimes.serving.metrics import Metrics


@pytest.fixture
def one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: dict[str, Any] = {
        "nvmlInit": None,
        "nvmlShutdown": None,
        "nvmlDeviceGetCount": 1,
        "nvmlDeviceGetHandleByIndex": "handle",
        "nvmlDeviceGetName": "Tesla T4",
        "nvmlDeviceGetMemoryInfo": SimpleNamespace(used=2**30, total=16 * 2**30),
        "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=25),
        "nvmlDeviceGetTemperature": 55,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, lambda *_, answer=answer: answer)


def test_a_gpu_is_reported_in_gigabytes(one_gpu: None) -> None:
    assert hardware.report() == {
        "gpu_info": [
            {
                "id": "0",
                "name": "Tesla T4",
                "load": "25.00%",
                "temperature": "55 C",
                "memory": {"used": "1.00 GB", "total": "16.00 GB"},
            }
        ],
        "cpu_info": None,
    }


def test_a_slice_of_a_gpu_has_no_load(one_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: Any) -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    monkeypatch.setattr(pynvml, "nvmlDeviceGetUtilizationRates", unsupported)
    assert hardware.report()["gpu_info"][0]["load"] == "unknown"


def test_a_gpu_that_shares_the_hosts_memory_has_none_to_tell(
    one_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: Any) -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", unsupported)
    (gpu,) = hardware.report()["gpu_info"]
    assert gpu["memory"] == {"used": "unknown", "total": "unknown"}
    assert gpu["load"] == "25.00%"
    registry = Metrics("model").registry
    assert registry.get_sample_value("kaito_gpu_memory_bytes", {"gpu": "0", "kind": "used"}) is None


def test_gpu_memory_is_a_metric(one_gpu: None) -> None:
    registry = Metrics("model").registry
    assert registry.get_sample_value("kaito_gpu_memory_bytes", {"gpu": "0", "kind": "used"}) == (
        2**30
    )


@pytest.mark.parametrize(
    ("content", "expected"), [("100000 100000", 1), ("50000 100000", 1), ("1 1000000", 1)]
)
def test_a_cpu_limit_is_rounded_up(tmp_path: Path, content: str, expected: int) -> None:
    (tmp_path / "cpu.max").write_text(content)
    assert cpu_limit(tmp_path / "cpu.max") == expected


def test_without_a_limit_all_cpus_count(tmp_path: Path) -> None:
    everything = cpu_limit(tmp_path / "missing")
    (tmp_path / "cpu.max").write_text("max 100000")
    assert cpu_limit(tmp_path / "cpu.max") == everything >= 1
    (tmp_path / "cpu.max").write_text("100000000 100000")
    assert cpu_limit(tmp_path / "cpu.max") == everything
