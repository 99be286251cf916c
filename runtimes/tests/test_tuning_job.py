"""The job as a pod runs it: flags in, an adapter in a registry out, through interruptions and mistakes."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
import yaml
from harness import serving_asgi, wait_until
from peft import PeftModel
from registries import Registry, basic, docker_config, registry
from safetensors.torch import load_file
from starlette.applications import Starlette
from starlette.responses import FileResponse
from starlette.routing import Route
from test_program import free_port
from transformers import AutoModelForCausalLM

from runtimes.failure import Exit

QLORA = {
    "load_in_4bit": True,
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_compute_dtype": "bfloat16",
    "bnb_4bit_use_double_quant": True,
}
NAME = "phi-3-mini-4k-instruct"


class Running:
    """One process of the job."""

    def __init__(self, process: subprocess.Popen[str], port: int, word: Path) -> None:
        self.process = process
        self._url = f"http://127.0.0.1:{port}"
        self._word = word

    def ask(self, path: str) -> str:
        try:
            return httpx.get(f"{self._url}{path}", timeout=10).text
        except httpx.TransportError:
            return "{}"

    def wait_for_step(self, step: int) -> None:
        def reached() -> bool:
            assert self.process.poll() is None, self.end()
            return int(json.loads(self.ask("/progress")).get("step", 0)) >= step

        wait_until(reached, 120)

    def end(self) -> tuple[int, list[dict[str, Any]]]:
        """Exit code and log lines."""
        output, _ = self.process.communicate(timeout=120)
        return self.process.returncode, [json.loads(line) for line in output.splitlines()]

    def word(self) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(self._word.read_text())
        return said


@contextmanager
def job(tmp_path: Path, model: Path, config: dict[str, Any], *flags: str) -> Iterator[Running]:
    """Start the job; the config's sections are those that differ from the template."""
    port, word = free_port(), tmp_path / "word"
    word.write_text("")
    file = tmp_path / "training_config.yaml"
    file.write_text(yaml.safe_dump({"training_config": config}))
    command = [
        *(sys.executable, "-m", "runtimes.tuning", f"--base_model_name={NAME}"),
        *(f"--pretrained_model_name_or_path={model}", f"--config_file={file}", "--threads=1"),
        *(f"--output_dir={tmp_path / 'out'}", f"--port={port}", f"--termination_log={word}"),
        *("--host=127.0.0.1", "--allow_local_addresses"),
    ]
    environment = {**os.environ, "HF_TOKEN": "s3cret", "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [*command, *flags], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            yield Running(process, port, word)
        finally:
            process.kill()


def chats(file: Path, rows: int) -> Path:
    lines = [
        {
            "messages": [
                {"role": "user", "content": f"Q{row}?"},
                {"role": "assistant", "content": "A."},
            ]
        }
        for row in range(rows)
    ]
    file.write_text("\n".join(map(json.dumps, lines)))
    return file


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("registry"), "basic") as made:
        yield made


def oci(*arguments: str) -> str:
    command = [sys.executable, "-m", "runtimes.oci", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        out: torch.Tensor = model(torch.arange(10, 30)[None]).logits
    return out.float()


@pytest.mark.filterwarnings("ignore")
def test_lora_from_a_url_to_an_adapter_that_changes_the_model(
    tiny_model: Path, locked: Registry, tmp_path: Path
) -> None:
    wrong = docker_config(tmp_path / "wrong.json", locked.host, auth=basic(password="wrong"))
    right = docker_config(tmp_path / "right.json", locked.host, auth=basic())
    insecure = f"--insecure-registry={locked.host}"
    image = locked.reference("team/adapter:v1")
    data = Starlette(routes=[Route("/d", lambda _: FileResponse(chats(tmp_path / "d", 20)))])
    config = {
        "TrainingArguments": {"num_train_epochs": 1, "learning_rate": 1e-2, "save_strategy": "no"},
        "DatasetConfig": {"train_test_split": 0.8},
    }
    with serving_asgi(data) as url:
        flags = ("--method=lora", f"--data_url={url}/d?sig=s3cret", f"--output_image={image}")

        with job(
            tmp_path, tiny_model, config, *flags, insecure, f"--docker-config={wrong}"
        ) as first:
            code, lines = first.end()
        assert code == Exit.REGISTRY, lines[-1]
        word = first.word()
        assert (word["phase"], word["reason"], word["digest"]) == ("Failed", "PushFailed", None)
        assert "another try only pushes it" in word["error"]
        assert (word["step"], word["total"]) == (2, 2)
        assert word["eval_loss"] is not None
        assert "s3cret" not in json.dumps(lines)

        # the second start finds the adapter, and does not train
        with job(
            tmp_path, tiny_model, config, *flags, insecure, f"--docker-config={right}"
        ) as second:
            code, lines = second.end()
        assert code == Exit.DONE, lines[-1]
    events = [line["event"] for line in lines]
    assert "already trained: the result is used as it is" in events
    assert "ready to train" not in events
    word = second.word()
    assert (word["phase"], word["image"], word["error"]) == ("Succeeded", image, None)

    exact = f"{locked.host}/team/adapter@{word['digest']}"
    login = (f"--docker-config={right}", insecure)
    assert json.loads(oci("inspect", image, *login))["annotations"] == {
        "kaito.adapter.rank": "8",
        "kaito.dataset.sha256": json.loads((tmp_path / "out/tuning_report.json").read_text())[
            "dataset"
        ]["sha256"],
        "org.opencontainers.image.created": "1970-01-01T00:00:00Z",
        "sh.kaito.model.name": NAME,
    }
    oci("pull", exact, str(tmp_path / "adapter"), *login)
    pulled = {path.name for path in (tmp_path / "adapter").iterdir()}
    assert pulled == {"adapter_config.json", "adapter_model.safetensors", "tuning_report.json"}
    told = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
    assert told["base_model_name_or_path"] == NAME
    assert told["target_modules"] == ["down_proj", "gate_up_proj", "o_proj", "qkv_proj"]

    base = AutoModelForCausalLM.from_pretrained(tiny_model, local_files_only=True)
    before = logits(base)
    after = logits(PeftModel.from_pretrained(base, tmp_path / "adapter"))
    assert (after - before).abs().max() > 0.01


@pytest.mark.filterwarnings("ignore")
def test_qlora_from_a_dataset_image_through_a_sigterm_and_a_kill(
    tiny_model: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    with registry(tmp_path_factory.mktemp("images")) as images:
        (tmp_path / "dataset").mkdir()
        chats(tmp_path / "dataset" / "train.jsonl", 120)
        insecure = f"--insecure-registry={images.host}"
        pushed = oci("push", str(tmp_path / "dataset"), images.reference("data:v1"), insecure)
        oci("pull", pushed.strip(), str(tmp_path / "data"), insecure)
    config = {
        "QuantizationConfig": QLORA,
        "TrainingArguments": {
            "num_train_epochs": 1,
            "per_device_train_batch_size": 2,
            "save_strategy": "steps",
            "save_steps": 5,
        },
        "DatasetConfig": {"train_test_split": 1},
    }
    flags = ("--method=qlora", f"--data_dir={tmp_path / 'data'}")
    out = tmp_path / "out"

    with job(tmp_path, tiny_model, config, *flags) as first:
        first.wait_for_step(3)
        metrics = first.ask("/metrics")
        assert "kaito_tuning_total_steps 60.0" in metrics
        assert "kaito_tuning_loss" in metrics
        first.process.send_signal(signal.SIGTERM)
        code, _ = first.end()
    assert code == Exit.INTERRUPTED
    word = first.word()
    assert (word["phase"], word["reason"]) == ("Interrupted", "Interrupted")
    stopped_at = word["step"]
    assert 3 <= stopped_at < 40
    assert (out / f"checkpoint-{stopped_at}" / "complete.json").exists()
    assert not (out / "fine_tuning_completed.txt").exists()

    with job(tmp_path, tiny_model, config, *flags) as second:
        second.wait_for_step(stopped_at + 12)
        worker = only_child(second.process.pid)
        second.process.kill()
        second.process.wait(10)
    wait_until(lambda: not alive(worker))  # nothing trains on without the job
    # The kill may have come in the middle of a checkpoint: only a sealed one counts.
    sealed = out.glob("checkpoint-*/complete.json")
    saved = max(int(path.parent.name.split("-")[1]) for path in sealed)
    assert saved > stopped_at

    with job(tmp_path, tiny_model, config, *flags) as third:
        code, lines = third.end()
    assert code == Exit.DONE, lines[-1]
    ready = next(line for line in lines if line["event"] == "ready to train")
    assert ready["goes_on_from"] == f"checkpoint-{saved}"
    assert third.word()["step"] == 60
    weights = load_file(out / "adapter_model.safetensors")
    assert len(weights) == 16
    assert all(bool(weight.any()) for name, weight in weights.items() if "lora_B" in name)


def only_child(pid: int) -> int:
    [child] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def ended(arguments: Sequence[str], **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "runtimes.tuning", *arguments]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--method=full",), "--method 'full': Input should be 'lora' or 'qlora'"),
        (("--metod=lora",), "unknown flag --metod: did you mean --method?"),
        (("--method=lora",), "--base_model_name is needed"),
        (("lora",), "'lora' belongs to no flag"),
    ],
)
def test_wrong_flags_are_one_line(flags: tuple[str, ...], words: str) -> None:
    made = ended(flags)
    assert made.returncode == Exit.SETTINGS
    assert made.stderr.startswith("runtimes.tuning: ")
    assert words in made.stderr
    assert made.stderr.count("\n") == 1


def test_help_teaches() -> None:
    text = ended(["--help"]).stdout
    for words in ("--output_image", "exit codes:", "GET /progress", "#sha256=HEX"):
        assert words in text


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"config": "training_config: {LoraConfig: {r: 0}}"}, Exit.SETTINGS, "LoraConfig.r"),
        ({"data": "<html>log in</html>"}, Exit.DATA, "is an HTML or XML page"),
        ({"--output_image": "r.example.com/A"}, Exit.SETTINGS, "is not an image reference"),
        ({"--docker_config": "/none"}, Exit.SETTINGS, "/none cannot be read"),
        ({"--output_dir": "/proc/none"}, Exit.SETTINGS, "--output_dir /proc/none cannot be"),
        ({"--pretrained_model_name_or_path": "no/model"}, Exit.SETTINGS, "is no folder here"),
    ],
)
def test_what_is_refused_before_anything_is_trained(
    change: dict[str, str], code: Exit, words: str, tiny_model: Path, tmp_path: Path
) -> None:
    flags = {
        "--method": "lora",
        "--base_model_name": NAME,
        "--pretrained_model_name_or_path": str(tiny_model),
        "--config_file": str(tmp_path / "config.yaml"),
        "--data_dir": str(tmp_path / "data"),
        "--output_dir": str(tmp_path / "out"),
        "--output_image": "r.example.com/adapter:v1",
        "--port": "0",
        "--termination_log": str(tmp_path / "word"),
    }
    (tmp_path / "word").touch()
    (tmp_path / "config.yaml").write_text(change.pop("config", "training_config: {}"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows").write_text(change.pop("data", '{"text": "t"}'))
    made = ended([f"{name}={value}" for name, value in {**flags, **change}.items()])
    assert made.returncode == code, made.stdout
    word = json.loads((tmp_path / "word").read_text())
    reason = {Exit.SETTINGS: "InvalidConfig", Exit.DATA: "InvalidData"}[code]
    assert (word["phase"], word["reason"]) == ("Failed", reason)
    assert words in word["error"]
    assert json.loads(made.stdout.splitlines()[-1])["error"] == word["error"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small disk")
def test_a_full_disk_is_named(tmp_path: Path) -> None:
    """Temporary files on a disk of 64 kB, which the samples do not fit."""
    (tmp_path / "data").mkdir()
    rows = [{"text": os.urandom(600).hex()} for _ in range(500)]
    (tmp_path / "data" / "rows").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "config.yaml").write_text("training_config: {}")
    (tmp_path / "small").mkdir()
    job_flags = [
        *("--method=lora", f"--base_model_name={NAME}", "--port=0"),
        *(f"--config_file={tmp_path / 'config.yaml'}", f"--data_dir={tmp_path / 'data'}"),
    ]
    python = [sys.executable, "-m", "runtimes.tuning", *job_flags]
    script = 'mount -t tmpfs -o size=64k tmpfs "$TMPDIR" && exec "$@"'
    made = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", *python],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "TMPDIR": str(tmp_path / "small")},
    )
    assert made.returncode == Exit.UNEXPECTED
    last = json.loads(made.stdout.splitlines()[-1])
    assert last["event"] == "the job failed"
    assert last["error"].startswith("the disk is full")


def test_sigterm_while_data_is_fetched_leaves_nothing(tiny_model: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        flags = ("--method=lora", f"--data_url=http://127.0.0.1:{port}/d")
        with job(tmp_path, tiny_model, {}, *flags) as begun, silent.accept()[0]:
            begun.process.send_signal(signal.SIGTERM)
            code, _ = begun.end()
    assert code == Exit.INTERRUPTED
    assert begun.word()["phase"] == "Interrupted"
    assert not list(tmp_path.glob("tuning-*"))
