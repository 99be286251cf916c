"""The section `TrainingArguments`: what the trainer may be told.

The values go to the trainer as they are written; what is left out has the trainer's default, or ours where
`recipe.py` says so.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from runtimes.tuning.sections import Section

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
AtLeastZero = Annotated[float, Field(ge=0)]
Beta = Annotated[float, Field(ge=0, lt=1)]
Interval = Literal["no", "steps", "epoch"]

OPTIMIZERS = Literal[
    "adamw_torch",
    "adamw_torch_fused",
    "adafactor",
    "adamw_bnb_8bit",
    "adamw_8bit",
    "paged_adamw_32bit",
    "paged_adamw_8bit",
    "lion_32bit",
    "lion_8bit",
    "paged_lion_32bit",
    "paged_lion_8bit",
    "sgd",
    "adagrad",
    "rmsprop",
]
SCHEDULES = Literal[
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "constant",
    "constant_with_warmup",
    "inverse_sqrt",
    "cosine_with_min_lr",
    "warmup_stable_decay",
]

_HUB = "results go to the output image, and nowhere else"
_BY_JOB = "it is set by the job"
_ONE_KIND = "each GPU holds the whole model and a share of the batch"
_NOT_HERE = "its package is not in the image"
_FLASH = "without it rows would see each other: it needs flash attention, which is not in the image"
_GONE = "the trainer does not know it any more"


class TrainingArguments(Section):
    """The trainer's settings, as in transformers and trl."""

    renamed: ClassVar[Mapping[str, str]] = {
        "evaluation_strategy": "eval_strategy",
        "per_gpu_train_batch_size": "per_device_train_batch_size",
        "per_gpu_eval_batch_size": "per_device_eval_batch_size",
        "max_seq_length": "max_length",
        "no_cuda": "use_cpu",
    }
    ignored: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(
            ("do_train", "do_eval", "do_predict", "local_rank", "disable_tqdm"), _BY_JOB
        ),
        **dict.fromkeys(
            ("overwrite_output_dir", "resume_from_checkpoint", "ignore_data_skip"),
            "a job that was interrupted goes on by itself",
        ),
        **dict.fromkeys(
            ("remove_unused_columns", "label_names", "dataset_kwargs", "log_level"), _BY_JOB
        ),
        **dict.fromkeys(
            ("log_level_replica", "log_on_each_node", "logging_dir", "run_name"), _BY_JOB
        ),
        **dict.fromkeys(("logging_nan_inf_filter", "skip_memory_metrics", "project"), _BY_JOB),
        **dict.fromkeys(
            ("include_inputs_for_metrics", "include_for_metrics"), "no such metrics here"
        ),
        **dict.fromkeys(("eval_do_concat_batches", "batch_eval_metrics"), "no such metrics here"),
        **dict.fromkeys(("save_safetensors", "save_on_each_node", "save_only_model"), _BY_JOB),
        **dict.fromkeys(("group_by_length", "length_column_name", "past_index"), _GONE),
        **dict.fromkeys(("fp16_opt_level", "fp16_backend", "half_precision_backend"), _GONE),
        **dict.fromkeys(("use_mps_device", "use_ipex", "jit_mode_eval", "ray_scope"), _GONE),
        **dict.fromkeys(("tpu_num_cores", "tpu_metrics_debug", "mp_parameters"), _GONE),
        **dict.fromkeys(("dispatch_batches", "split_batches", "adafactor", "debug"), _GONE),
        **dict.fromkeys(
            ("include_tokens_per_second", "include_num_input_tokens_seen"),
            "see /metrics for tokens per second",
        ),
        **dict.fromkeys(("fsdp_min_num_params", "fsdp_transformer_layer_cls_to_wrap"), _GONE),
        **dict.fromkeys(("optim_target_modules", "accelerator_config", "torchdynamo"), _BY_JOB),
        **dict.fromkeys(("ddp_backend", "ddp_bucket_cap_mb", "ddp_broadcast_buffers"), _BY_JOB),
        "use_cache": _BY_JOB,
    }
    refused: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("push_to_hub", "push_to_hub_model_id", "push_to_hub_organization"), _HUB),
        **dict.fromkeys(("push_to_hub_token", "hub_token", "hub_model_id", "hub_strategy"), _HUB),
        **dict.fromkeys(("hub_private_repo", "hub_always_push", "hub_revision"), _HUB),
        **dict.fromkeys(("trackio_space_id", "trackio_bucket_id"), _HUB),
        **dict.fromkeys(("deepspeed", "fsdp", "fsdp_config", "sharded_ddp"), _ONE_KIND),
        "parallelism_config": _ONE_KIND,
        **dict.fromkeys(("use_liger_kernel", "liger_kernel_config"), _NOT_HERE),
        **dict.fromkeys(
            ("torch_compile", "torch_compile_backend", "torch_compile_mode"),
            "the image has no compiler",
        ),
        **dict.fromkeys(("packing", "eval_packing", "padding_free"), _FLASH),
        "trust_remote_code": "code from a model's repository is never run",
        "model_init_kwargs": "see ModelConfig",
        "chat_template_path": "see ModelConfig.chat_template",
    }

    output_dir: str = ""
    num_train_epochs: Positive = 3.0
    max_steps: Annotated[int, Field(ge=-1)] = -1
    per_device_train_batch_size: Count = 8
    per_device_eval_batch_size: Count = 8
    gradient_accumulation_steps: Count = 1
    eval_accumulation_steps: Count | None = None
    auto_find_batch_size: bool = False

    learning_rate: Annotated[float, Field(gt=0, le=1)] = 2e-4
    lr_scheduler_type: SCHEDULES = "linear"
    lr_scheduler_kwargs: dict[str, Any] | None = None
    warmup_steps: AtLeastZero = 0
    warmup_ratio: Annotated[float, Field(ge=0, le=1)] = 0.0
    optim: OPTIMIZERS = "adamw_torch_fused"
    optim_args: str | None = None
    weight_decay: AtLeastZero = 0.0
    adam_beta1: Beta = 0.9
    adam_beta2: Beta = 0.999
    adam_epsilon: Positive = 1e-8
    max_grad_norm: AtLeastZero = 1.0
    label_smoothing_factor: Annotated[float, Field(ge=0, lt=1)] = 0.0
    neftune_noise_alpha: Positive | None = None

    bf16: bool | None = None
    fp16: bool = False
    bf16_full_eval: bool = False
    fp16_full_eval: bool = False
    tf32: bool | None = None
    use_cpu: bool = False
    gradient_checkpointing: bool = True
    gradient_checkpointing_kwargs: dict[str, Any] | None = None
    torch_empty_cache_steps: Count | None = None

    max_length: Annotated[int, Field(ge=8)] | None = 1024
    truncation_mode: Literal["keep_start", "keep_end"] = "keep_start"
    completion_only_loss: bool | None = None
    assistant_only_loss: bool = False
    dataset_text_field: str = ""
    dataset_num_proc: Count | None = None
    shuffle_dataset: bool = False
    pad_token: str | None = None
    eos_token: str | None = None
    loss_type: Literal["nll", "dft"] = "nll"

    logging_strategy: Interval = "steps"
    logging_steps: Positive = 10
    logging_first_step: bool = True
    eval_strategy: Interval = "no"
    eval_steps: Positive | None = None
    eval_delay: AtLeastZero = 0
    eval_on_start: bool = False
    prediction_loss_only: bool = False
    save_strategy: Literal["no", "steps", "epoch", "best"] = "epoch"
    save_steps: Positive = 500
    save_total_limit: Count = 2
    load_best_model_at_end: bool = False
    metric_for_best_model: Literal["loss", "eval_loss"] | None = None
    greater_is_better: bool | None = None
    report_to: list[str] | str = "none"

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    data_seed: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    full_determinism: bool = False
    dataloader_drop_last: bool = False
    dataloader_num_workers: Annotated[int, Field(ge=0, le=64)] = 0
    dataloader_pin_memory: bool = True
    dataloader_persistent_workers: bool = False
    dataloader_prefetch_factor: Count | None = None
    average_tokens_across_devices: bool = True
    ddp_find_unused_parameters: bool = False
    ddp_timeout: Count = 1800
    router_aux_loss_coef: AtLeastZero | None = None

    @field_validator("optim", mode="before")
    @classmethod
    def _one_adamw(cls, value: Any) -> Any:
        return "adamw_torch" if value == "adamw_hf" else value

    @field_validator("report_to")
    @classmethod
    def _stays_here(cls, value: list[str] | str) -> list[str] | str:
        named = [value] if isinstance(value, str) else value
        if foreign := [name for name in named if name not in {"none", "all", "tensorboard"}]:
            raise ValueError(
                f"{foreign[0]} would send the run's figures elsewhere; they are at /progress and /metrics"
            )
        return value
