"""The program as a pod runs it: a process of its own, told by flags, asked by HTTP, ended by signals."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from harness import serving_asgi, wait_until
from sandbox import hub

from runtimes.failure import Exit
from runtimes.serving import __main__ as serving
from runtimes.termination import leave_word

PINNED = "0123456789abcdef0123456789abcdef01234567"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class Program:
    """One process of the server."""

    def __init__(self, process: subprocess.Popen[str], port: int, client: httpx.Client) -> None:
        self.process = process
        self.port = port
        self.client = client

    def ready(self) -> int:
        try:
            return self.client.get("/ready").status_code
        except httpx.TransportError:
            return 0

    def end(self) -> tuple[int, list[dict[str, Any]]]:
        """Exit code and log lines."""
        output, _ = self.process.communicate(timeout=30)
        return self.process.returncode, [json.loads(line) for line in output.splitlines()]


@contextmanager
def program(
    tmp_path: Path,
    endpoint: str,
    *flags: str,
    start: tuple[str, str] = ("-m", "runtimes.serving"),
) -> Iterator[Program]:
    port = free_port()
    command = [
        *(sys.executable, *start, "--host=127.0.0.1", f"--port={port}"),
        *("--pretrained_model_name_or_path=microsoft/Phi-3-mini-4k-instruct", "--threads=1"),
        *(f"--download_dir={tmp_path / 'weights'}", f"--termination_log={tmp_path / 'word'}"),
    ]
    (tmp_path / "word").touch()
    environment = {
        **os.environ,
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(tmp_path / "hf"),
        "PYTHONPATH": str(Path(__file__).parent),
    }
    with (
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
        subprocess.Popen(
            [*command, *flags], stdout=subprocess.PIPE, text=True, env=environment
        ) as process,
    ):
        try:
            yield Program(process, port, client)
        finally:
            process.kill()


def test_from_the_hub_to_an_answer_to_a_drain(tiny_model: Path, tmp_path: Path) -> None:
    long = {"max_new_tokens": 490, "min_length": 490}
    flags = ("--allow_remote_files", f"--revision={PINNED}", "--served_model_name=phi-3")
    with (
        serving_asgi(hub.application(hub.Folder.read(tiny_model))) as endpoint,
        program(tmp_path, endpoint, *flags) as served,
        ThreadPoolExecutor(2) as pool,
    ):
        wait_until(lambda: served.ready() == 503, 30)
        assert "kaito_model_download_bytes" in served.client.get("/metrics").text
        wait_until(lambda: served.ready() == 200, 120)
        info = served.client.get("/metrics").text
        assert f'model="phi-3",quantization="none",revision="{PINNED}"' in info

        answer = served.client.post("/chat", json={"prompt": "my secret plan"})
        assert answer.json()["Result"].startswith("my secret plan")

        asked = [
            pool.submit(
                served.client.post, "/chat", json={"prompt": "secret", "generate_kwargs": long}
            )
            for _ in range(2)
        ]
        wait_until(lambda: "kaito_requests_running 2.0" in served.client.get("/metrics").text)
        served.process.send_signal(signal.SIGTERM)
        wait_until(lambda: served.ready() == 503)
        assert [answer.result().status_code for answer in asked] == [200, 200]
        code, lines = served.end()
    assert code == 0
    assert (tmp_path / "word").read_text() == ""
    events = [line["event"] for line in lines]
    assert events[:2] == ["listening", "downloading"]
    assert events[-1] == "stopped"
    assert {"ts", "level"} <= set.intersection(*map(set, lines))
    assert "secret" not in json.dumps(lines)


class Silent:
    """A hub that takes a connection and says nothing."""

    def __enter__(self) -> str:
        self._listener = socket.create_server(("127.0.0.1", 0))
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self._listener.close()


def test_a_download_does_not_hold_up_sigterm(tmp_path: Path) -> None:
    with Silent() as endpoint, program(tmp_path, endpoint, "--allow_remote_files") as served:
        wait_until(lambda: served.ready() == 503, 30)
        begin = time.monotonic()
        served.process.send_signal(signal.SIGTERM)
        code, _ = served.end()
        assert code == 0
        assert time.monotonic() - begin < 5


def test_an_unknown_revision_ends_the_process_with_one_line(
    tiny_model: Path, tmp_path: Path
) -> None:
    flags = ("--allow_remote_files", "--revision=v9")
    with (
        serving_asgi(hub.application(hub.Folder.read(tiny_model))) as endpoint,
        program(tmp_path, endpoint, *flags) as served,
    ):
        code, lines = served.end()
    assert code == Exit.WEIGHTS
    assert lines[-1]["event"] == "cannot serve"
    assert lines[-1]["reason"] == (tmp_path / "word").read_text()
    assert "has no revision v9: change --revision" in lines[-1]["reason"]


def run(*flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "runtimes.serving", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_wrong_flag_ends_the_process_with_one_line() -> None:
    ended = run("--prot=5")
    assert ended.returncode == Exit.SETTINGS
    assert ended.stderr == "runtimes.serving: unknown flag --prot: did you mean --port?\n"
    assert ended.stdout == ""


def test_a_taken_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run("--host=127.0.0.1", f"--port={port}")
    assert ended.returncode == Exit.SETTINGS
    assert f"cannot listen on --host 127.0.0.1 --port {port}" in ended.stdout


def test_a_second_signal_ends_the_process_at_once(tmp_path: Path) -> None:
    """The engine is a fake that never answers, so the drain alone would last for a minute."""
    never_answers = (
        "import sys\n"
        "from fake_engine import FakeEngine, Script\n"
        "from runtimes.serving import __main__ as program\n"
        "script = Script(held_answers=True)\n"
        "program.engine_maker = lambda settings: lambda options: FakeEngine(options, script)\n"
        "sys.exit(program.main(sys.argv[1:]))\n"
    )
    flags = (f"--pretrained_model_name_or_path={tmp_path}",)
    with (
        program(tmp_path, "", *flags, start=("-c", never_answers)) as served,
        ThreadPoolExecutor(1) as pool,
    ):
        wait_until(lambda: served.ready() == 200, 60)
        asked = pool.submit(served.client.post, "/chat", json={"prompt": "Hello"})
        wait_until(lambda: "kaito_requests_running 1.0" in served.client.get("/metrics").text)
        served.process.send_signal(signal.SIGTERM)
        wait_until(lambda: served.ready() == 503)
        assert served.process.poll() is None
        served.process.send_signal(signal.SIGTERM)
        code, _ = served.end()
        assert isinstance(asked.exception(10), httpx.TransportError)
    assert code == 128 + signal.SIGTERM


def test_the_last_word_names_the_error_inside_the_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crash(*_: Any) -> None:
        inner = ExceptionGroup("unhandled errors in a TaskGroup", [KeyError("lm_head")])
        raise ExceptionGroup("unhandled errors in a TaskGroup", [inner])

    word = tmp_path / "word"
    word.touch()
    monkeypatch.setattr(serving, "run", crash)
    monkeypatch.setattr("runtimes.log.configure", lambda _level: None)
    flags = ["--host=127.0.0.1", f"--port={free_port()}", f"--termination_log={word}"]
    model = "--pretrained_model_name_or_path=microsoft/Phi-3-mini-4k-instruct"
    assert serving.main([model, *flags]) == Exit.UNEXPECTED
    assert word.read_text() == "unexpected: KeyError: 'lm_head'"


def test_word_is_left_only_where_kubernetes_made_a_file(tmp_path: Path) -> None:
    leave_word(tmp_path / "none", "reason")
    assert not (tmp_path / "none").exists()
    (tmp_path / "word").touch()
    leave_word(tmp_path / "word", "é" * 10_000)
    assert len((tmp_path / "word").read_bytes()) == 4096
