"""Results and checkpoints: whole, of the right training, or not there."""

import json
from pathlib import Path

import pytest

from runtimes.tuning import checkpoints, results

ID, OTHER = "sha256:1", "sha256:2"


def saved(output: Path) -> Path:
    folder = output / ".adapter"
    folder.mkdir(parents=True)
    config = {"base_model_name_or_path": "/workspace/weights", "target_modules": ["z", "a"], "r": 8}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    return folder


@pytest.fixture
def output(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    results.begin(folder)
    results.finish(saved(folder), folder, "phi-3", {"identity": ID, "rank": 8})
    return folder


def test_a_result(output: Path) -> None:
    names = {path.name for path in output.iterdir()}
    assert names == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "fine_tuning_completed.txt",
        "tuning_report.json",
    }
    config = json.loads((output / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "phi-3"
    assert config["target_modules"] == ["a", "z"]
    report = results.finished(output, ID)
    assert report is not None
    assert report["rank"] == 8
    assert (
        (output / "fine_tuning_completed.txt").read_text().startswith("Fine-Tuning completed at ")
    )


@pytest.mark.parametrize("harmed", ["adapter_model.safetensors", "adapter_config.json"])
def test_a_result_that_was_touched_is_none(harmed: str, output: Path) -> None:
    (output / harmed).write_bytes(b"other")
    assert results.finished(output, ID) is None


@pytest.mark.parametrize(
    "lost", ["adapter_model.safetensors", "tuning_report.json", "fine_tuning_completed.txt"]
)
def test_half_a_result_is_none(lost: str, output: Path) -> None:
    (output / lost).unlink()
    assert results.finished(output, ID) is None


def test_the_result_of_another_training_is_none(output: Path) -> None:
    assert results.finished(output, OTHER) is None


def test_a_new_training_forgets_the_old_result(output: Path) -> None:
    results.begin(output)
    assert results.finished(output, ID) is None
    assert not (output / "fine_tuning_completed.txt").exists()


def checkpoint(output: Path, step: int, identity: str = ID) -> Path:
    folder = output / f"checkpoint-{step}"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    (folder / "optimizer.pt").write_bytes(b"moments")
    checkpoints.seal(folder, identity)
    return folder


def test_the_newest_whole_checkpoint_of_this_training(output: Path) -> None:
    right = checkpoint(output, 9)
    checkpoint(output, 2)
    (checkpoint(output, 10) / "optimizer.pt").write_bytes(b"mom")
    (checkpoint(output, 11) / "complete.json").unlink()
    (checkpoint(output, 12) / "complete.json").write_text("{")
    (checkpoint(output, 13) / "adapter_model.safetensors").unlink()
    checkpoint(output, 14, OTHER)
    (output / "checkpoint-x").mkdir()
    assert checkpoints.newest(output, ID) == right
    checkpoints.remove_unusable(output, ID)
    left = {path.name for path in output.glob("checkpoint-*")}
    assert left == {"checkpoint-2", "checkpoint-9", "checkpoint-x"}


def test_no_checkpoint(output: Path) -> None:
    checkpoint(output, 1, OTHER)
    assert checkpoints.newest(output, ID) is None
