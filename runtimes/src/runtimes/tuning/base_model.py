"""Load the model that an adapter is trained for, and check that the adapter can reach it."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
import torch
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
)

from runtimes.engines.loading import choose_dtype, context_length, read_config
from runtimes.failure import Exit, Failure, StartupFailure
from runtimes.tuning import recipe
from runtimes.tuning.rows import Shape
from runtimes.tuning.task import Task

ALL_LINEAR = "all-linear"

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class BaseModel:
    """A model whose own weights stay as they are.

    `context` is its longest sequence in tokens, `targets` the modules that the adapter goes to, as
    peft reads them.
    """

    model: Any
    tokenizer: Any
    dtype: torch.dtype
    context: int
    quantized: bool
    targets: list[str] | str


def load(task: Task) -> BaseModel:
    """The task's base model, on this process's GPU or on the CPU. Raises `Failure`."""
    folder = Path(task.model_folder)
    section = task.sections.ModelConfig
    quantization = recipe.quantization(task.sections, task.method)
    try:
        content = read_config(folder)
        config = CONFIG_MAPPING[content["model_type"]].from_dict(content)
        tokenizer = AutoTokenizer.from_pretrained(
            folder, config=config, local_files_only=True, trust_remote_code=False
        )
        dtype = choose_dtype(section.torch_dtype, config)
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            device_map={"": device(task)},
            quantization_config=BitsAndBytesConfig(**quantization) if quantization else None,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
        )
    except StartupFailure as failure:
        raise Failure(Exit.UNEXPECTED, failure.message, "ModelUnusable") from failure
    except (ValueError, KeyError, ImportError) as error:
        text = " ".join(str(error).split())[:300]
        raise Failure(
            Exit.UNEXPECTED, f"the model in {folder} cannot be loaded: {text}", "ModelUnusable"
        ) from error
    _prepare_tokenizer(tokenizer, section.chat_template, task.shape)
    return BaseModel(
        model=model,
        tokenizer=tokenizer,
        dtype=dtype,
        context=context_length(config, tokenizer),
        quantized=quantization is not None,
        targets=find_targets(model, task.sections.LoraConfig.target_modules),
    )


def device(task: Task) -> str:
    """Where this process keeps its copy of the model."""
    if torch.cuda.is_available() and not task.sections.TrainingArguments.use_cpu:
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    return "cpu"


def _prepare_tokenizer(tokenizer: Any, template: str, shape: Shape) -> None:
    if template:
        inline = "{" in template or "\n" in template
        tokenizer.chat_template = template if inline else _template_file(template)
    if shape is Shape.CHAT and not tokenizer.chat_template:
        raise Failure(
            Exit.SETTINGS,
            "the dataset has messages, and the model has no chat template: set "
            "training_config.ModelConfig.chat_template, or use a dataset with prompt and completion",
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token


def _template_file(name: str) -> str:
    try:
        return Path(name).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(
            Exit.SETTINGS, f"training_config.ModelConfig.chat_template {name}: {error}"
        ) from error


def find_targets(model: Any, written: list[str] | str) -> list[str] | str:
    """What the adapter goes to: `all-linear` by name, anything else as it is written.

    Raises `Failure` for names that are nowhere in the model, and warns of those that are among others.
    """
    linear = linear_names(model)
    if written == ALL_LINEAR:
        return linear or ALL_LINEAR
    names = [name for name, _ in model.named_modules()]
    is_pattern = isinstance(written, str)
    wanted = [written] if isinstance(written, str) else written
    missing = [
        target for target in wanted if not any(_hits(target, name, is_pattern) for name in names)
    ]
    if len(missing) == len(wanted):
        raise Failure(
            Exit.SETTINGS,
            "training_config.LoraConfig.target_modules: the model has none of "
            f"{', '.join(wanted)}; it has {', '.join(linear)}, or write {ALL_LINEAR}",
        )
    if missing:
        log.warning("target_modules are partly not in the model", missing=missing, known=linear)
    return written


def linear_names(model: Any) -> list[str]:
    """The names of the linear layers without their places, as servers expect them in an adapter.

    Empty if a name also stands for something else, so that it would reach too far.
    """
    head = model.get_output_embeddings()
    parts = [(name.rpartition(".")[2], part) for name, part in model.named_modules()]
    linear = {
        leaf for leaf, part in parts if isinstance(part, torch.nn.Linear) and part is not head
    }
    others = {leaf for leaf, part in parts if not isinstance(part, torch.nn.Linear) or part is head}
    return [] if linear & others else sorted(linear)


def _hits(target: str, name: str, is_pattern: bool) -> bool:
    """As peft matches: one text is a pattern for the whole name, a list names ends of names."""
    if is_pattern:
        return re.fullmatch(target, name) is not None
    return name == target or name.endswith(f".{target}")
