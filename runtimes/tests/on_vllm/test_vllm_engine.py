"""The engine on vLLM, for real on a CPU: what its server gives and how it ends."""

import os
import signal
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest
from harness import Running, running, wait_until
from moulds import mould

from runtimes.failure import StartupFailure
from runtimes.serving.engine_choice import vllm_engine

SECONDS = 300.0  # to start, on a machine that does other things too


def client(server: Running) -> openai.OpenAI:
    transport: Any = server.client
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", http_client=transport)


def test_answers_are_vllms_own_byte_for_byte(real: Running) -> None:
    answer = client(real).chat.completions.with_raw_response.create(
        model="tiny", messages=[{"role": "user", "content": "Hi"}], max_tokens=4, temperature=0
    )
    assert answer.http_response.json()["id"].startswith("chatcmpl-")
    assert "prompt_token_ids" in answer.http_response.json()  # a field that only vLLM has


def test_its_metrics_stand_beside_ours(real: Running) -> None:
    real.result(prompt="Hello", generate_kwargs={"max_new_tokens": 2})
    assert real.metric("vllm:generation_tokens_total") > 0
    assert real.metric("kaito_model_info", engine="vllm") == 1
    text = real.client.get("/metrics").text
    assert text.count("# TYPE process_resident_memory_bytes") == 1


@pytest.mark.parametrize("kwargs", [{"num_beams": 2}, {"typical_p": 0.5}, {"bad_words_ids": [[5]]}])
def test_what_vllm_cannot_do_is_refused_by_name(real: Running, kwargs: dict[str, Any]) -> None:
    answer = real.chat(prompt="Hello", generate_kwargs=kwargs)
    assert answer.status_code == 400
    assert f"{next(iter(kwargs))} is not available on the vLLM engine" in answer.json()["detail"]


def test_adapters_are_heard_and_the_end_of_vllm_is_the_end_of_health(
    real: Running, tiny_model: Path, tmp_path: Path
) -> None:
    """One server for both, because each takes vLLM's long start."""
    for seed, name in enumerate(("terse", "verse")):
        mould(tiny_model, tmp_path / "adapters" / name, seed=seed, rank=2 + seed)
    kwargs = {"do_sample": False, "max_new_tokens": 24}
    others = {each.pid for each in psutil.Process().children()}
    bare = real.result(prompt="Tell me a joke", generate_kwargs=kwargs)
    with running(
        vllm_engine,
        pretrained_model_name_or_path=str(tiny_model),
        served_model_name="tiny",
        engine="vllm",
        adapters_dir=tmp_path / "adapters",
        adapter={"verse": 0.5},
        max_model_len=256,
    ) as server:
        server.wait_ready(SECONDS)
        adapted = server.result(prompt="Tell me a joke", generate_kwargs=kwargs)
        assert adapted != bare
        answer = client(server).completions.create(
            model="tiny", prompt="Tell me a joke", temperature=0, max_tokens=24
        )
        assert "Tell me a joke" + answer.choices[0].text == adapted
        (vllm,) = {each.pid for each in psutil.Process().children()} - others
        os.kill(vllm, signal.SIGKILL)
        wait_until(lambda: server.client.get("/health").status_code == 500)
        assert "vllm ended with exit code -9" in server.client.get("/health").json()["detail"]
        assert server.chat(prompt="Hello").status_code == 503


def test_a_model_that_vllm_cannot_load_ends_the_server_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with (
        pytest.raises(StartupFailure, match="vllm ended with exit code 1"),
        running(vllm_engine, pretrained_model_name_or_path=str(tmp_path), engine="vllm") as server,
    ):
        wait_until(lambda: server.server.stopping, SECONDS)
