"""The sections of `training_config.yaml`, but for the arguments of training.

A section lists every key that was ever in use: what is still meant, what has another name now, what is
no longer needed, and what is refused because it would run foreign code or change the base model.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Dtype = Literal["auto", "float32", "float16", "bfloat16"]
Fraction = Annotated[float, Field(ge=0, le=1)]

_FROM_FLAGS = "where the model comes from is said by the job's flags"


class Section(BaseModel):
    """Keys with types and ranges; the class variables are about all other keys, with the reason."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    renamed: ClassVar[Mapping[str, str]] = {}
    ignored: ClassVar[Mapping[str, str]] = {}
    refused: ClassVar[Mapping[str, str]] = {}


class ModelConfig(Section):
    """How the base model is loaded."""

    renamed: ClassVar[Mapping[str, str]] = {"dtype": "torch_dtype"}
    ignored: ClassVar[Mapping[str, str]] = {
        "pretrained_model_name_or_path": _FROM_FLAGS,
        "revision": _FROM_FLAGS,
        "local_files_only": _FROM_FLAGS,
        "cache_dir": _FROM_FLAGS,
        "force_download": _FROM_FLAGS,
        "resume_download": _FROM_FLAGS,
        "output_loading_info": "nobody would read it",
        "device_map": "each process takes one GPU, or the CPU if there is none",
    }
    refused: ClassVar[Mapping[str, str]] = {
        "trust_remote_code": "code from a model's repository is never run; "
        "phi-3, falcon, mistral and others need none",
        "from_tf": "only safetensors are loaded",
        "state_dict": "weights come from the model's folder alone",
        "proxies": "set HTTPS_PROXY in the container's environment",
    }

    torch_dtype: Dtype = "auto"
    load_in_4bit: bool = False
    load_in_8bit: bool = False
    chat_template: str = ""

    @field_validator("torch_dtype", mode="before")
    @classmethod
    def _bare_name(cls, value: Any) -> Any:
        return value.removeprefix("torch.") if isinstance(value, str) else value


class QuantizationConfig(Section):
    """How the base model's weights are stored while the adapter is trained."""

    ignored: ClassVar[Mapping[str, str]] = {
        "bnb_4bit_quant_storage": "only needed to shard a model"
    }

    quant_method: Literal["bitsandbytes"] = "bitsandbytes"
    load_in_4bit: bool = False
    load_in_8bit: bool = False
    bnb_4bit_compute_dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    bnb_4bit_quant_type: Literal["fp4", "nf4"] = "fp4"
    bnb_4bit_use_double_quant: bool = False
    llm_int8_threshold: Annotated[float, Field(ge=0)] = 6.0
    llm_int8_skip_modules: list[str] | None = None
    llm_int8_enable_fp32_cpu_offload: bool = False
    llm_int8_has_fp16_weight: bool = False

    @field_validator("bnb_4bit_compute_dtype", mode="before")
    @classmethod
    def _bare_name(cls, value: Any) -> Any:
        return value.removeprefix("torch.") if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.load_in_4bit and self.load_in_8bit:
            raise ValueError("load_in_4bit and load_in_8bit exclude each other: choose one")
        return self


_CHANGES_BASE = "the adapter would not fit the base model as it is served"


class LoraConfig(Section):
    """The adapter's shape."""

    ignored: ClassVar[Mapping[str, str]] = {
        "peft_type": "it is LORA",
        "auto_mapping": "it is set by the job",
        "peft_version": "it is set by the job",
        "base_model_name_or_path": "it is set by the job",
        "revision": "it is set by the job",
        "inference_mode": "an adapter is trained",
        "megatron_core": "megatron is not used",
        "runtime_config": "nothing is offloaded",
    }
    refused: ClassVar[Mapping[str, str]] = {
        "megatron_config": "megatron is not used",
        "loftq_config": _CHANGES_BASE,
        "eva_config": _CHANGES_BASE,
        "corda_config": _CHANGES_BASE,
        "lora_ga_config": _CHANGES_BASE,
        "layer_replication": _CHANGES_BASE,
    }

    r: Annotated[int, Field(ge=1, le=256)] = 8
    lora_alpha: Annotated[int, Field(gt=0)] | Annotated[float, Field(gt=0)] = 8
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    task_type: Literal["CAUSAL_LM"] = "CAUSAL_LM"
    target_modules: list[str] | str = "all-linear"
    exclude_modules: list[str] | str | None = None
    bias: Literal["none", "all", "lora_only"] = "none"
    fan_in_fan_out: bool = False
    use_rslora: bool = False
    use_dora: bool = False
    modules_to_save: list[str] | None = None
    init_lora_weights: bool | Literal["gaussian", "orthogonal"] = True
    layers_to_transform: list[int] | int | None = None
    layers_pattern: list[str] | str | None = None
    rank_pattern: dict[str, int] = {}
    alpha_pattern: dict[str, float] = {}


class DataCollator(Section):
    """How rows become batches."""

    ignored: ClassVar[Mapping[str, str]] = {
        "mlm": "a causal model predicts the next token, not masked ones",
        "mlm_probability": "a causal model predicts the next token, not masked ones",
        "mask_replace_prob": "a causal model predicts the next token, not masked ones",
        "random_replace_prob": "a causal model predicts the next token, not masked ones",
        "tokenizer": "it is the model's own",
        "return_tensors": "they are torch's",
        "tf_experimental_compile": "torch is used",
        "seed": "see TrainingArguments.seed",
    }

    pad_to_multiple_of: Annotated[int, Field(ge=1, le=1024)] | None = None


class DatasetConfig(Section):
    """Which rows are trained on, and where in them text is."""

    ignored: ClassVar[Mapping[str, str]] = {
        "dataset_extension": "what a file holds is read from its content"
    }

    dataset_path: str = ""
    shuffle_dataset: bool = True
    shuffle_seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    context_column: str = ""
    response_column: str = ""
    messages_column: str = ""
    train_test_split: Annotated[float, Field(gt=0, le=1)] = 0.8
