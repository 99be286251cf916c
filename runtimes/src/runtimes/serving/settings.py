"""What the server can be told, with defaults, ranges and the text of `--help`.

The only list of settings: flags, the YAML file and the environment all use these names.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Strength = Annotated[float, Field(ge=0, le=1)]
Port = Annotated[int, Field(ge=0, le=65_535)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class Settings(BaseModel):
    """Everything the server can be told."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    pretrained_model_name_or_path: Annotated[str, Field(min_length=1)] = "/workspace/weights"
    """folder with a model, or with --allow_remote_files an id on the model hub (org/name)"""
    revision: str = "main"
    """commit, tag or branch on the model hub; a commit never changes under you"""
    allow_remote_files: bool = False
    """download the model from the hub that HF_ENDPOINT names, if it is not on disk"""
    download_dir: Path = Path("/workspace/weights")
    """folder that downloads go to"""
    hub_token_file: Path | None = None
    """file with a token of the model hub, for models with restricted access"""
    served_model_name: str = ""
    """name in metrics and listings; default: the last part of the model's name"""
    pipeline: Literal["text-generation", "conversational"] = "text-generation"
    """what /chat asks for when a request has neither prompt nor messages; both always work"""
    torch_dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """type of the weights in memory; auto: as stored, but float32 on a CPU without AVX-512, float16 on a GPU without bfloat16"""
    device_map: Annotated[
        str, Field(pattern=r"^(auto|balanced|balanced_low_0|sequential|cpu|cuda(:\d+)?)$")
    ] = "auto"
    """where layers go; auto: over all GPUs, or the CPU if there is none"""
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.84
    """share of each GPU's memory that vLLM may use; transformers takes what it needs"""
    load_in_4bit: bool = False
    """quantize the weights to 4 bits while loading"""
    load_in_8bit: bool = False
    """quantize the weights to 8 bits while loading"""
    trust_remote_code: bool = False
    """refused: code from a model's repository is never run"""
    engine: Literal["auto", "transformers", "vllm"] = "auto"
    """what runs the model; auto: vllm where there is a GPU and vllm is installed, else transformers"""
    vllm: dict[str, Any] = {}
    """NAME=VALUE, once for each of vLLM's own flags, which win over all others; only for that engine"""
    nodes: Annotated[int, Field(ge=1, le=1024)] = 1
    """nodes that share one model; more than one needs vllm and --leader_address"""
    leader_address: str = ""
    """host name of the first of several nodes"""
    node_rank: Annotated[int, Field(ge=0)] | None = None
    """which of several nodes this is, from 0; default: POD_INDEX in the environment"""
    adapters_dir: Path = Path("/mnt/adapter")
    """folder whose folders are LoRA adapters, each with adapter_config.json"""
    adapter: dict[str, Strength] = {}
    """NAME=STRENGTH, once for each adapter: how much of it is added, from 0 to 1; default: 1"""
    adapter_mode: Literal["merge", "select"] = "merge"
    """merge: every answer has all adapters; select: a request's `model` names one, or the bare model"""
    chat_template: str = ""
    """Jinja chat template, as a file or inline; default: the model's own"""
    max_model_len: Annotated[int, Field(ge=16)] | None = None
    """longest prompt and answer together, in tokens; default: the model's own, or with vLLM what of it fits"""
    max_new_tokens_limit: Annotated[int, Field(ge=1)] = 1024
    """most tokens that one answer may have"""
    max_queue: Annotated[int, Field(ge=1, le=10_000)] = 64
    """requests that may wait; the next gets 429"""
    request_timeout: Seconds = 180
    """seconds for one request, waiting included; then 504"""
    drain_timeout: Seconds = 60
    """seconds that running requests get after SIGTERM"""
    api_key_file: Path | None = None
    """file with API keys, one to a line, of which /chat and /v1 then ask one; read again when it changes"""
    max_body_bytes: Annotated[int, Field(ge=1024)] = 1_048_576
    """longest request body; longer ones get 413"""
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """CPU threads for the model; default: the container's CPU limit, or all cores"""
    host: str = "0.0.0.0"
    """address to listen on"""
    port: Port = 5000
    """port to listen on; 0: any free one"""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """least important lines to log"""
    termination_log: Path = Path("/dev/termination-log")
    """file, if it exists, that gets the reason when the server cannot start"""
    config_file: Path | None = None
    """YAML file with any of these settings, named as the flags"""

    @field_validator("adapter", mode="before")
    @classmethod
    def _strengths(cls, value: Any) -> Any:
        pairs = _pairs(value)
        if not isinstance(pairs, dict):
            return pairs
        return {name: 1.0 if strength == "" else strength for name, strength in pairs.items()}

    @field_validator("vllm", mode="before")
    @classmethod
    def _flags(cls, value: Any) -> Any:
        pairs = _pairs(value)
        if not isinstance(pairs, dict):
            return pairs
        words = {"": True, "true": True, "false": False}
        return {name: words.get(text, text) for name, text in pairs.items()}

    @field_validator("trust_remote_code")
    @classmethod
    def _never_trusts(cls, value: bool) -> bool:
        if value:
            raise ValueError(
                "code from a model's repository is never run; "
                "phi-3, falcon, mistral and others need none"
            )
        return value

    @model_validator(mode="after")
    def _one_quantization(self) -> Self:
        if self.load_in_4bit and self.load_in_8bit:
            raise ValueError("load_in_4bit and load_in_8bit exclude each other: choose one")
        return self

    @model_validator(mode="after")
    def _several_nodes(self) -> Self:
        if self.nodes > 1 and self.engine == "transformers":
            raise ValueError("several nodes need --engine=vllm")
        if self.nodes > 1 and not self.leader_address:
            raise ValueError("several nodes need --leader_address")
        if self.node_rank is not None and self.node_rank >= self.nodes:
            raise ValueError(f"node_rank {self.node_rank} is not below nodes {self.nodes}")
        return self

    @property
    def model_name(self) -> str:
        """The name that metrics, logs and listings use."""
        return (
            self.served_model_name or self.pretrained_model_name_or_path.rstrip("/").split("/")[-1]
        )


def _pairs(value: Any) -> Any:
    """From NAME=VALUE words, also joined with commas, to a mapping; anything else as it is."""
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list):
        return value
    pairs = [str(word).partition("=")[::2] for word in value]
    if wrong := [word for word, (name, _) in zip(value, pairs, strict=True) if not name]:
        raise ValueError(f"write NAME=VALUE, not {wrong[0]!r}")
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("names one twice")
    return dict(pairs)
