"""What the machine is doing: the JSON that earlier servers gave at `/metrics`, now at `/metrics.json`.

Reading never waits: loads are means since the reading before.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil
import pynvml

GIB = 2**30


@dataclass(frozen=True)
class Gpu:
    """One GPU; `load` in percent, `temperature` in degrees Celsius, memory in bytes; None: unknown."""

    id: str
    name: str
    load: float | None
    temperature: float | None
    memory_used: int
    memory_total: int


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
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    return Gpu(
        id=str(index),
        name=pynvml.nvmlDeviceGetName(handle),
        load=_reading(lambda: pynvml.nvmlDeviceGetUtilizationRates(handle).gpu),
        temperature=_reading(
            lambda: pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)
        ),
        memory_used=memory.used,
        memory_total=memory.total,
    )


def _reading(read: Callable[[], float]) -> float | None:
    """A slice of a GPU has memory of its own, but no load or temperature."""
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


def _memory(used: int, total: int) -> dict[str, str]:
    return {"used": f"{used / GIB:.2f} GB", "total": f"{total / GIB:.2f} GB"}
