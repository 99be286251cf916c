"""What only a loaded model can tell: whether the adapter reaches it, and whether the rows fit it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import AutoModelForCausalLM

from runtimes.failure import Exit, Failure
from runtimes.tuning import base_model, trainer
from runtimes.tuning.config import read
from runtimes.tuning.dataset import prepare
from runtimes.tuning.launch import command, environment
from runtimes.tuning.sections import DatasetConfig
from runtimes.tuning.task import Board, Task

pytestmark = pytest.mark.filterwarnings("ignore")  # of libraries; the job logs them

ROW = {
    "messages": [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": "A."}],
}


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_model, local_files_only=True)


def task(tmp_path: Path, model: Path, rows: list[Any], **config: Any) -> Task:
    (tmp_path / "rows").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "out").mkdir()
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({"training_config": config}))
    sections, _ = read(file, "lora")
    samples = prepare([tmp_path / "rows"], DatasetConfig(), tmp_path / "samples.parquet")
    return Task(
        folder=str(tmp_path),
        model_folder=str(model),
        model_commit="",
        base_model_name="tiny",
        method="lora",
        samples=str(samples.file),
        shape=samples.shape,
        dataset=samples.summary(),
        output_dir=str(tmp_path / "out"),
        identity="sha256:1",
        config=sections.model_dump(),
        config_digest=sections.digest(),
        set_arguments=sorted(sections.TrainingArguments.model_fields_set),
        checkpoint_seconds=0,
        threads=1,
        log_level="info",
    )


def train(made: Task) -> None:
    trainer.train(Task.read(made.write()), Board(Path(made.folder)))


def refusal(made: Task) -> Failure:
    with pytest.raises(Failure) as caught:
        train(made)
    return caught.value


def test_text_and_pairs_train_too(tiny_model: Path, tmp_path: Path) -> None:
    made = task(
        tmp_path,
        tiny_model,
        [{"instruction": "Say A.", "output": "A."}] * 5,
        TrainingArguments={"max_steps": 2, "per_device_train_batch_size": 1},
        LoraConfig={"target_modules": ["qkv_proj"], "r": 4},
        DatasetConfig={"train_test_split": 0.8},
    )
    train(made)
    report = json.loads((tmp_path / "out" / "tuning_report.json").read_text())
    assert report["rows"] == {"train": 4, "cut_away": 0}
    assert report["eval_loss"] > 0
    assert report["steps"] == 2
    assert Board(tmp_path).progress().loss == report["loss"]["last"]


def test_rows_that_are_cut_away_are_counted(tiny_model: Path, tmp_path: Path) -> None:
    long = {"messages": [{"role": "user", "content": "long " * 100}, ROW["messages"][1]]}
    made = task(
        tmp_path,
        tiny_model,
        [ROW, ROW, long],
        TrainingArguments={"max_steps": 1, "max_length": 64},
        DatasetConfig={"train_test_split": 1},
    )
    train(made)
    report = json.loads((tmp_path / "out" / "tuning_report.json").read_text())
    assert report["rows"] == {"train": 2, "cut_away": 1}


def test_prompts_that_leave_no_room_for_an_answer(tiny_model: Path, tmp_path: Path) -> None:
    failure = refusal(task(tmp_path, tiny_model, [ROW] * 3, TrainingArguments={"max_length": 8}))
    assert failure.code == Exit.DATA
    assert "raise TrainingArguments.max_length" in failure.message


def test_a_chat_needs_a_template(tiny_model: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(tiny_model, bare)
    (bare / "chat_template.jinja").unlink()
    failure = refusal(task(tmp_path, bare, [ROW]))
    assert failure.code == Exit.SETTINGS
    assert "ModelConfig.chat_template" in failure.message


def test_a_model_that_cannot_be_loaded_may_be_tried_again(tmp_path: Path) -> None:
    failure = refusal(task(tmp_path, tmp_path, [ROW]))
    assert (failure.code, failure.reason) == (Exit.UNEXPECTED, "ModelUnusable")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"assistant_only_loss": True, "eos_token": "<none>"}, "eos_token"),
        ({"load_best_model_at_end": True, "save_strategy": "no"}, "load_best_model_at_end"),
    ],
)
def test_what_the_trainer_refuses_is_the_configs_fault(
    arguments: dict[str, Any], words: str, tiny_model: Path, tmp_path: Path
) -> None:
    failure = refusal(task(tmp_path, tiny_model, [ROW] * 5, TrainingArguments=arguments))
    assert failure.code == Exit.SETTINGS
    assert failure.message.startswith("training_config.TrainingArguments: ")
    assert words in failure.message


def test_all_linear_is_all_but_the_head(model: Any) -> None:
    found = base_model.find_targets(model, "all-linear")
    assert found == ["down_proj", "gate_up_proj", "o_proj", "qkv_proj"]


@pytest.mark.parametrize("written", [["q_proj", "o_proj"], ["mlp.down_proj"], r".*\.qkv_proj"])
def test_targets_are_taken_as_written(model: Any, written: Any) -> None:
    assert base_model.find_targets(model, written) == written


@pytest.mark.parametrize("written", [["q_proj", "k_proj"], "q_proj", ["proj"]])
def test_targets_that_are_nowhere(model: Any, written: Any) -> None:
    with pytest.raises(Failure, match="it has down_proj, gate_up_proj, o_proj, qkv_proj") as caught:
        base_model.find_targets(model, written)
    assert caught.value.code == Exit.SETTINGS


def test_several_gpus_are_several_processes() -> None:
    assert command(Path("/t/task.json"), 1)[1:] == ["-m", "runtimes.tuning.worker", "/t/task.json"]
    several = command(Path("/t/task.json"), 4)
    assert several[1:4] == ["-m", "accelerate.commands.launch", "--num_processes=4"]
    assert several[-3:] == ["-m", "runtimes.tuning.worker", "/t/task.json"]


def test_training_processes_see_no_tokens_and_no_network() -> None:
    seen = environment({"HF_TOKEN": "s", "HF_ENDPOINT": "x", "PATH": "p"}, Path("/t"), 2)
    assert "HF_TOKEN" not in seen
    assert "HF_ENDPOINT" not in seen
    assert (seen["PATH"], seen["HF_HUB_OFFLINE"], seen["OMP_NUM_THREADS"]) == ("p", "1", "2")
