"""What people have written into `training_config.yaml`, and what becomes of it."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from runtimes.failure import Exit, Failure
from runtimes.tuning import recipe
from runtimes.tuning.config import TrainingConfig, read

# What clusters hold as their template since v0.3; quoted words and half-empty keys as people leave them.
LORA_TEMPLATE = """
training_config:
  ModelConfig:
    torch_dtype: "bfloat16"
    local_files_only: true
    device_map: "auto"
  QuantizationConfig:
    load_in_4bit: false
  LoraConfig:
    r: 8
    lora_alpha: 8
    lora_dropout: 0.0
  TrainingArguments:
    output_dir: "/mnt/results"
    # num_train_epochs:
    ddp_find_unused_parameters: false
    save_strategy: "epoch"
    per_device_train_batch_size: 1
  DataCollator:
    mlm: true
  DatasetConfig:
    shuffle_dataset: true
    train_test_split: 1
"""
QLORA_TEMPLATE = LORA_TEMPLATE.replace(
    "load_in_4bit: false",
    'load_in_4bit: true\n    bnb_4bit_quant_type: "nf4"\n'
    '    bnb_4bit_compute_dtype: "bfloat16"\n    bnb_4bit_use_double_quant: true',
)


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "training_config.yaml"
    file.write_text(text)
    return file


def sections(
    tmp_path: Path, method: str = "lora", **content: Any
) -> tuple[TrainingConfig, list[str]]:
    return read(written(tmp_path, yaml.safe_dump({"training_config": content})), method)


def refusal(tmp_path: Path, method: str = "lora", **content: Any) -> str:
    with pytest.raises(Failure) as caught:
        sections(tmp_path, method, **content)
    assert caught.value.code == Exit.SETTINGS
    return caught.value.message


@pytest.mark.parametrize(("method", "text"), [("lora", LORA_TEMPLATE), ("qlora", QLORA_TEMPLATE)])
def test_the_templates_of_old_keep_working(method: str, text: str, tmp_path: Path) -> None:
    config, warnings = read(written(tmp_path, text), method)
    assert [warning.split(" ")[0] for warning in warnings] == [
        "training_config.ModelConfig.local_files_only",
        "training_config.ModelConfig.device_map",
        "training_config.DataCollator.mlm",
    ]
    made = recipe.arguments(
        config,
        config.TrainingArguments.model_fields_set,
        output=Path("/mnt/results"),
        has_eval=False,
    )
    assert made == {
        "ddp_find_unused_parameters": False,
        "disable_tqdm": True,
        "eval_strategy": "no",
        "learning_rate": 2e-4,
        "load_best_model_at_end": False,
        "logging_first_step": True,
        "output_dir": "/mnt/results",
        "per_device_train_batch_size": 1,
        "report_to": "none",
        "save_strategy": "epoch",
        "save_total_limit": 2,
    }
    assert recipe.output_dir("", config) == Path("/mnt/results")
    quantization = recipe.quantization(config, method)
    assert (quantization is None) == (method == "lora")
    if quantization:
        assert quantization["bnb_4bit_quant_type"] == "nf4"


def test_every_key_of_old_is_known(tmp_path: Path) -> None:
    """None of these is refused, though many have no effect any more."""
    _, warnings = sections(
        tmp_path,
        "qlora",
        ModelConfig={
            "pretrained_model_name_or_path": "/workspace/tfs/weights",
            "state_dict": None,
            "cache_dir": None,
            "from_tf": False,
            "force_download": False,
            "resume_download": False,
            "proxies": None,
            "output_loading_info": False,
            "local_files_only": True,
            "revision": "main",
            "trust_remote_code": False,
            "load_in_4bit": False,
            "load_in_8bit": False,
            "torch_dtype": "torch.bfloat16",
            "device_map": "auto",
        },
        QuantizationConfig={
            "quant_method": "bitsandbytes",
            "load_in_8bit": "false",
            "load_in_4bit": "true",
            "llm_int8_threshold": 6.0,
            "llm_int8_skip_modules": None,
            "llm_int8_enable_fp32_cpu_offload": False,
            "llm_int8_has_fp16_weight": False,
            "bnb_4bit_compute_dtype": "torch.float16",
        },
        LoraConfig={
            "target_modules": ["qkv_proj"],
            "init_lora_weights": True,
            "layers_to_transform": None,
            "loftq_config": {},
            "task_type": None,
            "peft_type": None,
            "use_rslora": True,
        },
        TrainingArguments={
            "evaluation_strategy": "steps",
            "overwrite_output_dir": True,
            "warmup_ratio": 0.1,
            "optim": "adamw_hf",
            "learning_rate": "2e-4",  # YAML 1.1 reads this as text
            "max_seq_length": 256,
            "report_to": "all",
            "group_by_length": True,
            "gradient_checkpointing_kwargs": {"use_reentrant": False},
            "push_to_hub": False,
            "max_steps": "None",
        },
        DataCollator={"mlm": True, "mlm_probability": 0.15, "pad_to_multiple_of": 8},
        DatasetConfig={"dataset_extension": "parquet", "response_column": "text"},
    )
    assert not any("unknown" in warning for warning in warnings)


def test_what_was_written_reaches_the_trainer(tmp_path: Path) -> None:
    config, _ = sections(
        tmp_path,
        TrainingArguments={
            "evaluation_strategy": "steps",
            "warmup_ratio": 0.1,
            "max_seq_length": 256,
            "learning_rate": "2e-4",
            "gradient_checkpointing_kwargs": {"use_reentrant": False},
        },
        DataCollator={"pad_to_multiple_of": 8},
    )
    names = config.TrainingArguments.model_fields_set
    made = recipe.arguments(config, names, output=Path("/o"), has_eval=True)
    assert made["eval_strategy"] == "steps"
    assert made["warmup_steps"] == 0.1
    assert made["max_length"] == 256
    assert made["learning_rate"] == 2e-4
    assert made["gradient_checkpointing_kwargs"] == {"use_reentrant": False}
    assert made["pad_to_multiple_of"] == 8


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected one key at the top, training_config"),
        ("- a", "expected one key at the top"),
        ("training: {}", "expected one key at the top"),
        ("training_config: []\nother: 1", "expected one key at the top"),
        ("training_config: [1]", "is not a map of sections"),
        ("training_config: {a: [}", "cannot be read"),
        ("training_config: !!python/object:os.system {}", "cannot be read"),
        (
            "training_config: {LoraConfg: {}}",
            "LoraConfg: unknown section; did you mean LoraConfig?",
        ),
        ("training_config: {LoraConfig: 8}", "training_config.LoraConfig: expected key: value"),
    ],
)
def test_files_that_are_no_config(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(Failure) as caught:
        read(written(tmp_path, text), "lora")
    assert caught.value.code == Exit.SETTINGS
    assert words in caught.value.message
    assert "\n" not in caught.value.message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"--config_file .*/none cannot be read"):
        read(tmp_path / "none", "lora")


BAD = [
    (
        "LoraConfig",
        {"lora_aplha": 8},
        "LoraConfig.lora_aplha: unknown key; did you mean lora_alpha?",
    ),
    ("LoraConfig", {"lora_aplha": None}, "did you mean lora_alpha?"),
    ("LoraConfig", {"r": 0}, "LoraConfig.r: Input should be greater than or equal to 1 (found 0)"),
    ("LoraConfig", {"r": 10_000}, "less than or equal to 256"),
    ("LoraConfig", {"r": "many"}, "LoraConfig.r: Input should be a valid integer"),
    ("LoraConfig", {"lora_dropout": 1}, "LoraConfig.lora_dropout"),
    ("LoraConfig", {"task_type": "SEQ_CLS"}, "LoraConfig.task_type"),
    ("LoraConfig", {"init_lora_weights": "pissa"}, "LoraConfig.init_lora_weights"),
    ("LoraConfig", {"loftq_config": {"loftq_bits": 4}}, "would not fit the base model"),
    (
        "TrainingArguments",
        {"push_to_hub": True},
        "push_to_hub is refused: results go to the output",
    ),
    ("TrainingArguments", {"hub_token": "x"}, "hub_token is refused"),
    ("TrainingArguments", {"report_to": "wandb"}, "wandb would send the run's figures elsewhere"),
    ("TrainingArguments", {"report_to": ["none", "mlflow"]}, "mlflow would send"),
    ("TrainingArguments", {"deepspeed": "ds.json"}, "deepspeed is refused"),
    ("TrainingArguments", {"trust_remote_code": True}, "trust_remote_code is refused"),
    ("TrainingArguments", {"torch_compile": True}, "the image has no compiler"),
    ("TrainingArguments", {"packing": True}, "needs flash attention, which is not in the image"),
    ("TrainingArguments", {"learning_rate": -1}, "TrainingArguments.learning_rate"),
    ("TrainingArguments", {"num_train_epochs": 0}, "TrainingArguments.num_train_epochs"),
    ("TrainingArguments", {"optim": "galore_adamw"}, "TrainingArguments.optim"),
    (
        "TrainingArguments",
        {"per_device_train_batch_siz": 1},
        "did you mean per_device_train_batch_si",
    ),
    ("ModelConfig", {"trust_remote_code": True}, "code from a model's repository is never run"),
    ("ModelConfig", {"torch_dtype": "int4"}, "ModelConfig.torch_dtype"),
    ("ModelConfig", {"load_in_4bit": True}, "lora trains on whole weights; use qlora"),
    ("QuantizationConfig", {"load_in_8bit": True}, "lora trains on whole weights; use qlora"),
    ("QuantizationConfig", {"load_in_4bit": True, "load_in_8bit": True}, "exclude each other"),
    ("QuantizationConfig", {"load_in_4bit": "perhaps"}, "should be a valid boolean"),
    ("DatasetConfig", {"train_test_split": 0}, "DatasetConfig.train_test_split"),
    ("DatasetConfig", {"train_test_split": 80}, "DatasetConfig.train_test_split"),
    ("DatasetConfig", {"shuffle": True}, "did you mean shuffle_seed?"),
    ("DataCollator", {"pad_to_multiple_of": -8}, "DataCollator.pad_to_multiple_of"),
]


@pytest.mark.parametrize(("section", "content", "words"), BAD)
def test_bad_configs(section: str, content: dict[str, Any], words: str, tmp_path: Path) -> None:
    named: Any = {section: content}
    message = refusal(tmp_path, **named)
    assert words in message
    assert f"training_config.{section}" in message


def test_every_mistake_is_named_at_once(tmp_path: Path) -> None:
    message = refusal(tmp_path, LoraConfig={"r": 0, "x": 1}, TrainingArguments={"max_steps": "a"})
    for place in ("LoraConfig.r", "LoraConfig.x", "TrainingArguments.max_steps"):
        assert place in message


def test_qlora_needs_bits(tmp_path: Path) -> None:
    message = refusal(tmp_path, "qlora", QuantizationConfig={"load_in_4bit": False})
    assert "qlora needs load_in_4bit: true or load_in_8bit: true" in message


@pytest.mark.parametrize(
    ("flag", "config", "folder"),
    [
        ("/x/out", "/mnt/results", "/x/out"),
        ("", "/mnt/results", "/mnt/results"),
        ("", "results", "/mnt/results"),
        ("", "", "/mnt/output"),
    ],
)
def test_where_results_go(flag: str, config: str, folder: str, tmp_path: Path) -> None:
    made, _ = sections(tmp_path, TrainingArguments={"output_dir": config})
    assert recipe.output_dir(flag, made) == Path(folder)


def test_the_digest_is_of_what_a_file_means(tmp_path: Path) -> None:
    short, _ = sections(tmp_path, LoraConfig={"r": 8})
    long, _ = sections(tmp_path, LoraConfig={"lora_alpha": 8, "r": 8}, DataCollator={"mlm": True})
    other, _ = sections(tmp_path, LoraConfig={"r": 16})
    assert short.digest() == long.digest()
    assert short.digest() != other.digest()
