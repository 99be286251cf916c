"""What an engine is told, in plain values that cost nothing to import."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from runtimes.engines.adapters import Adapter


@dataclass(frozen=True)
class LoadOptions:
    """How weights are put into memory; the names are those of the flags."""

    torch_dtype: str = "auto"
    device_map: str = "auto"
    load_in_4bit: bool = False
    load_in_8bit: bool = False
    chat_template: str = ""

    @property
    def quantization(self) -> str:
        """For metrics and listings."""
        if self.load_in_4bit:
            return "4bit"
        return "8bit" if self.load_in_8bit else "none"


@dataclass(frozen=True)
class Machine:
    """The GPUs of this node, which are all alike; memory in bytes of one of them."""

    gpus: int = 0
    gpu_memory: int = 0


@dataclass(frozen=True)
class EngineOptions:
    """What to load, how, and what each request may ask for; None leaves it to the model or machine."""

    name: str
    folder: Path
    revision: str = ""
    loading: LoadOptions = LoadOptions()
    max_new_tokens: int = 1024
    max_model_len: int | None = None
    threads: int | None = None
    adapters: tuple[Adapter, ...] = ()
    adapter_mode: Literal["merge", "select"] = "merge"
    machine: Machine = Machine()
    weight_bytes: int = 0
    gpu_memory_utilization: float = 0.84
    nodes: int = 1
    node_rank: int = 0
    leader_address: str = ""
    vllm: Mapping[str, Any] = field(default_factory=dict)
    """vLLM's own flags, by name"""
