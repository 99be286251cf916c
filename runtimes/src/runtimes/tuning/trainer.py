"""Train an adapter: model, dataset and config in, a result in its folder out.

A GPU is used where there is one; nothing needs it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import structlog
import torch
import transformers
import trl
from datasets import Dataset
from datasets.utils.logging import disable_progress_bar
from peft import LoraConfig, prepare_model_for_kbit_training
from transformers import PrinterCallback, set_seed
from transformers.utils import logging as transformers_logging
from trl import SFTConfig, SFTTrainer

from runtimes.failure import Exit, Failure
from runtimes.tuning import checkpoints, recipe, results
from runtimes.tuning.base_model import BaseModel, load
from runtimes.tuning.callbacks import Keeper, Reporter
from runtimes.tuning.task import Board, Task

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Split:
    """What is learned from, and what is only measured on."""

    train: Dataset
    evaluation: Dataset | None


def train(task: Task, board: Board) -> None:
    """From a task to a result in its output folder, or to a checkpoint if it is told to end.

    Raises `Failure` and what libraries raise.
    """
    started = time.monotonic()
    transformers_logging.disable_progress_bar()
    disable_progress_bar()
    torch.set_num_threads(task.threads)
    set_seed(task.sections.TrainingArguments.seed)
    base = load(task)
    split = _split(task)
    keeper = Keeper(board, task.identity, task.checkpoint_seconds)
    trainer = _trainer(task, base, split)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Reporter(board))
    trainer.add_callback(keeper)
    used = len(trainer.train_dataset)
    if not used:
        raise Failure(
            Exit.DATA,
            f"every prompt alone is longer than max_length ({trainer.args.max_length} tokens): "
            "raise TrainingArguments.max_length",
        )
    checkpoint = checkpoints.newest(Path(task.output_dir), task.identity)
    _announce(trainer, split, checkpoint)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if keeper.stopped:
        return
    eval_loss = _eval_loss(trainer) if split.evaluation is not None else None
    report = _report(task, base, trainer, eval_loss=eval_loss, seconds=time.monotonic() - started)
    report["rows"] = {"train": used, "cut_away": len(split.train) - used}
    _save(task, trainer, report)


def _split(task: Task) -> Split:
    """Rows in their order of training; the same for all processes."""
    config = task.sections.DatasetConfig
    rows = Dataset.from_parquet(task.samples, cache_dir=str(Path(task.folder, "datasets")))
    if config.shuffle_dataset:
        rows = rows.shuffle(seed=config.shuffle_seed)
    measured = round(len(rows) * (1 - config.train_test_split))
    if not 0 < measured < len(rows):
        return Split(rows, None)
    parts = rows.train_test_split(
        test_size=measured, seed=config.shuffle_seed, shuffle=config.shuffle_dataset
    )
    return Split(parts["train"], parts["test"])


def _trainer(task: Task, base: BaseModel, split: Split) -> Any:
    """A trainer of trl; what it has beyond a plain one is not in its annotations."""
    config = task.sections
    arguments = recipe.arguments(
        config,
        task.set_arguments,
        output=Path(task.output_dir),
        has_eval=split.evaluation is not None,
    )
    arguments |= _for_this_machine(config.TrainingArguments, base)
    length = arguments.get("max_length", config.TrainingArguments.max_length)
    if length is not None and length > base.context:
        log.warning("max_length is longer than the model's context", was=length, now=base.context)
        arguments["max_length"] = base.context
    model = base.model
    training = _configured("TrainingArguments", lambda: SFTConfig(**arguments))
    adapter = _configured("LoraConfig", lambda: LoraConfig(**recipe.lora(config, base.targets)))
    if base.quantized:
        model = prepare_model_for_kbit_training(
            model,
            use_gradient_checkpointing=training.gradient_checkpointing,
            gradient_checkpointing_kwargs=training.gradient_checkpointing_kwargs,
        )
    return _configured(
        "TrainingArguments",
        lambda: SFTTrainer(
            model=model,
            args=training,
            train_dataset=split.train,
            eval_dataset=split.evaluation,
            processing_class=base.tokenizer,
            peft_config=adapter,
        ),
    )


def _for_this_machine(written: Any, base: BaseModel) -> dict[str, Any]:
    """What the hardware decides, whatever the config says."""
    if not torch.cuda.is_available() or written.use_cpu:
        return {"use_cpu": True, "bf16": False, "fp16": False, "dataloader_pin_memory": False}
    # emulated bfloat16, as on a V100, is slower than no mixed precision at all
    native = torch.cuda.is_bf16_supported(including_emulation=False)
    wanted = base.dtype == torch.bfloat16 if written.bf16 is None else written.bf16
    return {"bf16": native and wanted and not written.fp16}


def _configured(section: str, make: Callable[[], Any]) -> Any:
    """What `make` returns; libraries check their arguments when they are made."""
    try:
        return make()
    except (ValueError, TypeError, ImportError) as error:
        text = " ".join(str(error).split())[:500]
        raise Failure(Exit.SETTINGS, f"training_config.{section}: {text}") from error


def _announce(trainer: Any, split: Split, checkpoint: Path | None) -> None:
    trainable = sum(weight.numel() for weight in trainer.model.parameters() if weight.requires_grad)
    log.info(
        "ready to train",
        rows=len(trainer.train_dataset),
        cut_away=len(split.train) - len(trainer.train_dataset),
        eval_rows=len(split.evaluation) if split.evaluation is not None else 0,
        trainable_parameters=trainable,
        device=str(trainer.args.device),
        processes=trainer.args.world_size,
        goes_on_from=checkpoint.name if checkpoint else "",
    )


def _report(
    task: Task, base: BaseModel, trainer: Any, *, eval_loss: float | None, seconds: float
) -> dict[str, Any]:
    history = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {
        "identity": task.identity,
        "method": task.method,
        "base_model": {"name": task.base_model_name, "commit": task.model_commit},
        "config_sha256": task.config_digest,
        "rank": task.sections.LoraConfig.r,
        "dataset": task.dataset,
        "steps": trainer.state.global_step,
        "epochs": trainer.state.epoch,
        "loss": {
            "first": history[0] if history else None,
            "last": history[-1] if history else None,
        },
        "eval_loss": eval_loss,
        "seconds": round(seconds, 1),
        "dtype": str(base.dtype).removeprefix("torch."),
        "versions": {
            module.__name__: module.__version__ for module in (torch, transformers, peft, trl)
        },
    }


def _eval_loss(trainer: Any) -> float:
    """The loss after the last step; measured now, unless it has just been."""
    last = trainer.state.log_history[-2:]  # the very last entry sums up the run
    measured = [entry for entry in last if "eval_loss" in entry]
    if not measured or measured[-1]["step"] != trainer.state.global_step:
        measured = [trainer.evaluate()]
    loss: float = measured[-1]["eval_loss"]
    return loss


def _save(task: Task, trainer: Any, report: dict[str, Any]) -> None:
    if trainer.is_world_process_zero():
        output = Path(task.output_dir)
        saved = output / ".adapter"
        trainer.accelerator.unwrap_model(trainer.model).save_pretrained(saved)
        results.finish(saved, output, task.base_model_name, report)
    trainer.accelerator.wait_for_everyone()
