"""What the controller reads: /progress, /metrics and the last word."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from runtimes.failure import Exit, Failure
from runtimes.tuning.explain import explain
from runtimes.tuning.status import MESSAGE_BYTES, Status, serve
from runtimes.tuning.task import Board, Progress

WORD = {
    "phase",
    "step",
    "total",
    "epoch",
    "loss",
    "eval_loss",
    "image",
    "digest",
    "error",
    "reason",
}


@pytest.fixture
def status(tmp_path: Path) -> Status:
    return Status(Board(tmp_path))


@pytest.fixture
def client(status: Status) -> Iterator[httpx.Client]:
    server = serve(status, "127.0.0.1", 0)
    with httpx.Client(base_url=f"http://127.0.0.1:{server.server_port}", timeout=10) as client:
        yield client
    server.shutdown()
    server.server_close()


def test_from_the_first_second_to_the_last(status: Status, client: httpx.Client) -> None:
    first = client.get("/progress").json()
    assert set(first) == WORD | {"tokens_per_second", "seconds_left"}
    assert (first["phase"], first["step"], first["total"], first["loss"]) == (
        "Preparing",
        0,
        0,
        None,
    )

    status.phase = "Training"
    status.board.tell(
        Progress("Training", 3, 12, 0.25, loss=1.5, tokens_per_second=100.0, seconds_left=9.0)
    )
    assert client.get("/progress").json() == {
        **first,
        "phase": "Training",
        "step": 3,
        "total": 12,
        "epoch": 0.25,
        "loss": 1.5,
        "tokens_per_second": 100.0,
        "seconds_left": 9.0,
    }
    status.phase, status.image, status.digest = "Succeeded", "r.example.com/a:v1", "sha256:12"
    last = json.loads(status.last_word())
    assert set(last) == WORD
    assert (last["phase"], last["step"], last["digest"]) == ("Succeeded", 3, "sha256:12")


def test_metrics_have_their_names(status: Status, client: httpx.Client) -> None:
    status.board.tell(Progress("Training", 3, 12, 0.25, 1.5, 1.7, 0.1, 100.0, 9.0))
    families = text_string_to_metric_families(client.get("/metrics").text)
    values = {sample.name: sample.value for family in families for sample in family.samples}
    assert {name.removeprefix("kaito_tuning_"): value for name, value in values.items()} == {
        "step": 3,
        "total_steps": 12,
        "epoch": 0.25,
        "loss": 1.5,
        "eval_loss": 1.7,
        "grad_norm": 0.1,
        "tokens_per_second": 100,
        "seconds_left": 9,
    }


def test_health_and_nothing_else(client: httpx.Client) -> None:
    assert client.get("/health").json() == {"status": "Healthy"}
    assert client.get("/shutdown").status_code == 404
    assert client.post("/progress").status_code == 501


def test_a_taken_port_is_named(status: Status, client: httpx.Client) -> None:
    with pytest.raises(Failure, match="cannot listen on --host") as caught:
        serve(status, "127.0.0.1", client.base_url.port or 0)
    assert caught.value.code == Exit.SETTINGS


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (Failure(Exit.SETTINGS, "x"), "InvalidConfig"),
        (Failure(Exit.DATA, "x"), "InvalidData"),
        (Failure(Exit.MEMORY, "x"), "OutOfMemory"),
        (Failure(Exit.REGISTRY, "x"), "PushFailed"),
        (Failure(Exit.UNEXPECTED, "x"), "Unexpected"),
        (Failure(Exit.UNEXPECTED, "x", "DiskFull"), "DiskFull"),
    ],
)
def test_reasons(failure: Failure, reason: str, status: Status) -> None:
    status.phase, status.failure = "Failed", failure
    word = json.loads(status.last_word())
    assert (word["phase"], word["error"], word["reason"]) == ("Failed", "x", reason)


def test_the_last_word_is_never_cut_by_kubernetes(status: Status) -> None:
    status.failure = Failure(Exit.DATA, "ü" * 10_000)
    said = status.last_word()
    assert len(said.encode()) <= MESSAGE_BYTES
    assert json.loads(said)["error"].endswith("ü…")


def caused(outer: Exception, cause: Exception) -> Exception:
    outer.__cause__ = cause
    return outer


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (MemoryError(), Exit.MEMORY, "per_device_train_batch_size: 1"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), Exit.MEMORY, "use qlora"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory"),
            Exit.MEMORY,
            "larger instance",
        ),
        (OSError(28, "No space left on device"), Exit.UNEXPECTED, "the disk is full"),
        (RuntimeError("PytorchStreamWriter failed writing file"), Exit.UNEXPECTED, "disk is full"),
        (caused(ValueError("x"), OSError(28, "full")), Exit.UNEXPECTED, "the disk is full"),
        (ExceptionGroup("g", [MemoryError()]), Exit.MEMORY, "out of memory"),
        (Failure(Exit.DATA, "no rows"), Exit.DATA, "no rows"),
        (KeyError("lm_head"), Exit.UNEXPECTED, "unexpected: KeyError: 'lm_head'"),
    ],
)
def test_what_libraries_raise_becomes_a_reason(error: Exception, code: Exit, words: str) -> None:
    failure = explain(error)
    assert failure.code == code
    assert words in failure.message
