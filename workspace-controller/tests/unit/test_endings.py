"""How a run's pods ended, in words that help."""

import json
from typing import Any

import pytest

from gpuapis.core import Pod
from gpuapis.workspace import Workspace
from workspace_controller.tuning.endings import began, ending
from workspace_controller.tuning.facts import Progress
from workspace_controller.tuning.last_words import last_words, spoken

DIGEST = "sha256:" + "a" * 64


def workspace(**tuning: Any) -> Workspace:
    asked = {
        "preset": {"name": "phi-3-mini-128k-instruct"},
        "method": "qlora",
        "input": {"urls": ["https://example.com/a.parquet"]},
        "output": {"image": "example.com/out:1", "imagePushSecret": "push"},
    }
    return Workspace.model_validate(
        {
            "metadata": {"name": "tune", "namespace": "team"},
            "resource": {"labelSelector": {"matchLabels": {"apps": "x"}}},
            "tuning": asked | tuning,
        }
    )


def container(code: int, message: str = "", reason: str = "Error", at: int = 0) -> dict[str, Any]:
    times = {"startedAt": "2026-01-01T00:00:00Z", "finishedAt": f"2026-01-01T01:00:{at:02}Z"}
    ended = {"exitCode": code, "message": message, "reason": reason, **times}
    return {"name": "tune", "state": {"terminated": ended}}


def pod(*containers: dict[str, Any], name: str = "tune-1", **status: Any) -> Pod:
    failed = {"phase": "Failed", "containerStatuses": containers}
    return Pod.model_validate({"metadata": {"name": name}, "status": failed | status})


def said(**words: Any) -> str:
    return json.dumps({"phase": "Failed", "step": 3, "total": 9, "error": "it broke"} | words)


@pytest.mark.parametrize(
    ("code", "reason", "words"),
    [
        (1, "TuningFailed", ("it broke.", "kubectl logs -n team job/tune", "kaito.sh/tuning-run")),
        (2, "TuningConfigUnusable", ("it broke.", "Edit ConfigMap mine")),
        (3, "TuningDataUnusable", ("it broke.", "tuning.input", "kaito.sh/tuning-run")),
        (
            4,
            "TuningOutOfMemory",
            ("per_device_train_batch_size", "more GPU memory", "Edit ConfigMap mine"),
        ),
        (5, "TuningPushFailed", ("example.com/out:1", "Secret push", "kaito.sh/tuning-run")),
        (137, "TuningInterrupted", ("killed from outside",)),
        (143, "TuningInterrupted", ("saved a checkpoint", "kaito.sh/tuning-run")),
        (77, "TuningFailed", ("it broke.",)),
    ],
)
def test_each_exit_code_has_a_reason_and_a_remedy(
    code: int, reason: str, words: tuple[str, ...]
) -> None:
    found = ending([pod(container(code, said()))], workspace(config="mine"))
    assert found is not None
    assert found.reason == reason
    assert all(word in found.message for word in words), found.message
    assert found.progress == Progress(step=3, total_steps=9)


def test_a_kernel_kill_is_told_from_one_from_outside() -> None:
    found = ending([pod(container(137, reason="OOMKilled"))], workspace())
    assert found is not None
    assert found.reason == "ContainerOOMKilled"
    assert "main memory" in found.message


def test_without_a_config_of_ones_own_the_remedy_is_to_give_one() -> None:
    found = ending([pod(container(2, said()))], workspace())
    assert found is not None
    assert "in tuning.config" in found.message


def test_lora_out_of_memory_is_advised_to_quantize() -> None:
    found = ending([pod(container(4, said()))], workspace(method="LoRA"))
    assert found is not None
    assert "tuning.method qlora" in found.message
    found = ending([pod(container(4, said()))], workspace())
    assert found is not None
    assert "tuning.method qlora" not in found.message


def test_success_keeps_image_and_digest() -> None:
    words = said(step=9, loss=0.123456, image="example.com/out:1", digest=DIGEST, error=None)
    found = ending([pod(container(0, words), phase="Succeeded")], workspace())
    assert found is not None
    assert (found.reason, found.image, found.digest) == ("", "example.com/out:1", DIGEST)
    assert found.progress == Progress(step=9, total_steps=9, loss=0.1235)


def test_the_pod_that_ended_last_speaks() -> None:
    early = pod(container(1, said(error="first"), at=1), name="z")
    late = pod(container(3, said(error="second"), at=2), name="a")
    found = ending([late, early], workspace())
    assert found is not None
    assert "second" in found.message


def test_a_pod_at_work_has_not_ended() -> None:
    running = {"name": "tune", "state": {"running": {"startedAt": "2026-01-01T00:00:05Z"}}}
    at_work = pod(running, phase="Running")
    assert ending([at_work], workspace()) is None
    begun = began([at_work], workspace())
    assert begun is not None
    assert begun.second == 5
    assert began([pod(phase="Pending")], workspace()) is None


def test_data_that_could_not_be_fetched_is_told_by_the_container_that_fetches() -> None:
    ended = {"exitCode": 5, "message": "401 from example.com", "reason": "Error"}
    fetching = [{"name": "data-puller", "state": {"terminated": ended}}]
    waiting = {"name": "tune", "state": {"waiting": {"reason": "PodInitializing"}}}
    found = ending([pod(waiting, initContainerStatuses=fetching)], workspace())
    assert found is not None
    assert found.reason == "TuningDataNotFetched"
    assert "401 from example.com" in found.message
    assert "tuning.input.imagePullSecrets" in found.message


def test_an_evicted_pod_says_so() -> None:
    found = ending([pod(reason="Evicted", message="disk pressure")], workspace())
    assert found is not None
    assert found.reason == "PodEvicted"
    assert "disk pressure" in found.message


def test_a_pod_without_a_word_is_told_as_that() -> None:
    found = ending([pod()], workspace())
    assert found is not None
    assert found.reason == "TuningFailed"
    assert "without a word" in found.message


def test_words_that_are_not_the_runtimes_are_taken_as_they_are() -> None:
    assert last_words("Traceback: boom\n").error == "Traceback: boom"
    assert last_words("").error is None
    assert last_words('{"step": -1, "error": "x"}').progress == Progress()
    assert last_words('{"digest": "latest"}').digest is None


def test_numbers_that_json_does_not_know_are_left_out() -> None:
    assert last_words('{"step": 1, "loss": NaN, "epoch": Infinity}').progress == Progress(step=1)
    assert spoken({"step": 2, "loss": float("nan"), "epoch": -0.5}) == Progress(step=2)
    assert spoken({"step": "two"}) is None
