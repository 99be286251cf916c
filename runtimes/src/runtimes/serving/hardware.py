"""What the machine is doing: the JSON that earlier servers gave at `/metrics`, now at `/metrics.json`.

Reading never waits: loads are means since the reading before.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import psutil
import pynvml

T = TypeVar("T")

GIB = 2**30


@dataclass(frozen=True)
class Gpu:
    """One GPU; `load` in percent, `temperature` in degrees Celsius, memory in bytes; None: unknown."""

    id: str
    name: str
    load: float | None
    temperature: float | None
    memory_used: int | None
    memory_total: int | None


def gpus() -> list[Gpu]:
    """The GPUs that the driver shows; none without a driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        return [_gpu(index) for index in range(pynvml.nvmlDeviceGetCount())]
    finally:
        pynvml.nvmlShutdown()


def _gpu(index: int) -> Gpu:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = _reading(lambda: pynvml.nvmlDeviceGetMemoryInfo(handle))
    return Gpu(
        id=str(index),
        name=pynvml.nvmlDeviceGetName(handle),
        load=_reading(lambda: pynvml.nvmlDeviceGetUtilizationRates(handle).gpu),
        temperature=_reading(
            lambda: pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)
        ),
        memory_used=memory.used if memory else None,
        memory_total=memory.total if memory else None,
    )


def _reading(read: Callable[[], T]) -> T | None:
    """None for what this GPU cannot tell: a slice has no load, and some share the host's memory."""
    try:
        return read()
    except pynvml.NVMLError:
        return None


def report() -> dict[str, Any]:
    """The JSON of `/metrics.json`: `gpu_info` where there are GPUs, else `cpu_info`."""
    found = gpus()
    if found:
        return {"gpu_info": [_gpu_entry(gpu) for gpu in found], "cpu_info": None}
    memory = psutil.virtual_memory()
    return {
        "gpu_info": None,
        "cpu_info": {
            "load_percentage": psutil.cpu_percent(interval=None),
            "physical_cores": psutil.cpu_count(logical=False),
            "total_cores": psutil.cpu_count(logical=True),
            "memory": _memory(memory.used, memory.total),
        },
    }


def _gpu_entry(gpu: Gpu) -> dict[str, Any]:
    return {
        "id": gpu.id,
        "name": gpu.name,
        "load": "unknown" if gpu.load is None else f"{gpu.load:.2f}%",
        "temperature": "unknown" if gpu.temperature is None else f"{gpu.temperature:.0f} C",
        "memory": _memory(gpu.memory_used, gpu.memory_total),
    }


def _memory(used: int | None, total: int | None) -> dict[str, str]:
    return {"used": _gigabytes(used), "total": _gigabytes(total)}


def _gigabytes(size: int | None) -> str:
    return "unknown" if size is None else f"{size / GIB:.2f} GB"
