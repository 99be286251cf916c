"""From the sections of the config to what trl, peft and bitsandbytes are called with.

Pure, and without importing any of them. What the author wrote is passed on as it is; ours are only the
defaults, and what the job itself must decide.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from runtimes.tuning.config import TrainingConfig

# Not the trainer's arguments: used elsewhere, or known to it by another name.
_OURS = frozenset({"output_dir", "dataset_text_field", "report_to", "warmup_ratio", "use_cpu"})
_DEFAULTS = (
    "learning_rate",
    "save_strategy",
    "save_total_limit",
    "logging_first_step",
    "ddp_find_unused_parameters",
)


def output_dir(flag: str, config: TrainingConfig) -> Path:
    """Where results go: the flag's folder, or the config's, which always lies below /mnt."""
    if flag:
        return Path(flag)
    written = config.TrainingArguments.output_dir or "/mnt/output"
    return Path("/mnt", written.removeprefix("/mnt").lstrip("/"))


def arguments(
    config: TrainingConfig, written: Collection[str], *, output: Path, has_eval: bool
) -> dict[str, Any]:
    """The trainer's arguments; `written` names those that the config's author wrote."""
    values = config.TrainingArguments
    chosen = {
        name: getattr(values, name)
        for name in (*_DEFAULTS, *written)
        if name not in _OURS and name in type(values).model_fields
    }
    if values.warmup_ratio and "warmup_steps" not in written:
        chosen["warmup_steps"] = values.warmup_ratio  # below 1 it is a share of all steps
    if has_eval and "eval_strategy" not in written:
        chosen["eval_strategy"] = "epoch"
    if not has_eval:
        chosen.update(eval_strategy="no", load_best_model_at_end=False)
    if (multiple := config.DataCollator.pad_to_multiple_of) is not None:
        chosen["pad_to_multiple_of"] = multiple
    return {**chosen, "output_dir": str(output), "report_to": "none", "disable_tqdm": True}


def lora(config: TrainingConfig, targets: list[str] | str) -> dict[str, Any]:
    """The arguments of peft's LoraConfig, for an adapter that reaches `targets`."""
    return {**config.LoraConfig.model_dump(), "target_modules": targets}


def quantization(config: TrainingConfig, method: str) -> dict[str, Any] | None:
    """The arguments of transformers' BitsAndBytesConfig; None for whole weights."""
    if method == "lora":
        return None
    values = config.QuantizationConfig.model_dump(exclude={"quant_method"})
    return {name: value for name, value in values.items() if value is not None}
