import asyncio
import json
import shutil
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, FalconConfig, FalconForCausalLM

from runtimes.engines.contract import Finished, Generation, Sampling
from runtimes.engines.loading import choose_dtype, context_length, load, serving_dtype
from runtimes.engines.options import EngineOptions, LoadOptions
from runtimes.engines.transformers_engine import TransformersEngine
from runtimes.failure import Exit, StartupFailure


@pytest.fixture
def copy(tiny_model: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_model, tmp_path / "copy")


def failure(folder: Path, **options: Any) -> StartupFailure:
    with pytest.raises(StartupFailure) as raised:
        load(folder, LoadOptions(**options))
    return raised.value


def change_config(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no-config": (lambda folder: (folder / "config.json").unlink(), "config.json is missing"),
    "config-that-is-no-json": (
        lambda folder: (folder / "config.json").write_text("{nope"),
        "config.json is not a model's config",
    ),
    "config-that-is-a-list": (
        lambda folder: (folder / "config.json").write_text("[]"),
        "config.json is not a model's config",
    ),
    "no-safetensors": (
        lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
        "holds no *.safetensors weights",
    ),
    "cut-weights": (
        lambda folder: (folder / "model.safetensors").write_bytes(b"\x10" * 100),
        "are damaged",
    ),
    "config-of-another-size": (
        lambda folder: change_config(folder, intermediate_size=96),
        "cannot be loaded: its weights do not fit its config.json",
    ),
    "unknown-type": (
        lambda folder: change_config(folder, model_type="unheard-of"),
        "does not know model type 'unheard-of'",
    ),
    "type-that-needs-code": (
        lambda folder: change_config(
            folder, model_type="own", auto_map={"AutoConfig": "configuration_own.OwnConfig"}
        ),
        "never runs a repository's code",
    ),
    "no-tokenizer": (
        lambda folder: (folder / "tokenizer.json").rename(folder / "lost.json"),
        "cannot be loaded",
    ),
}


@pytest.mark.parametrize(("spoil", "text"), SPOILED.values(), ids=SPOILED.keys())
def test_a_folder_that_cannot_be_served_is_named(
    copy: Path, spoil: Callable[[Path], object], text: str
) -> None:
    spoil(copy)
    failed = failure(copy)
    assert failed.code == Exit.WEIGHTS
    assert str(copy) in failed.message
    assert text in failed.message
    assert "\n" not in failed.message


def test_a_natively_known_type_ignores_the_code_beside_it(copy: Path) -> None:
    change_config(copy, auto_map={"AutoConfig": "configuration_phi3.Phi3Config"})
    (copy / "configuration_phi3.py").write_text("raise SystemExit('code was run')")
    assert load(copy, LoadOptions()).model.num_parameters() == 394_368


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_too_little_memory_has_its_own_exit_code(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def no_room(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", no_room)
    failed = failure(tiny_model)
    assert failed.code == Exit.MEMORY
    assert "--load_in_8bit" in failed.message


def test_layers_that_do_not_fit_a_gpu_are_no_way_to_serve(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spread = SimpleNamespace(hf_device_map={"model.layers.0": 0, "model.layers.1": "cpu"})
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", lambda *_, **__: spread)
    failed = failure(tiny_model)
    assert failed.code == Exit.MEMORY
    assert "1 of 2 layers do not fit into GPU memory" in failed.message


@pytest.mark.parametrize(
    ("asked", "stored", "cpu", "expected"),
    [
        ("auto", torch.bfloat16, "AVX512", torch.bfloat16),
        ("auto", torch.bfloat16, "AVX2", torch.float32),
        ("auto", torch.float16, "AVX512", torch.float32),
        ("auto", torch.float32, "AVX512", torch.float32),
        ("auto", None, "AVX512", torch.float32),
        ("bfloat16", torch.float32, "AVX2", torch.bfloat16),
        ("float16", torch.bfloat16, "AVX2", torch.float16),
    ],
)
def test_auto_takes_the_stored_type_where_the_cpu_is_quick_with_it(
    monkeypatch: pytest.MonkeyPatch,
    asked: str,
    stored: torch.dtype | None,
    cpu: str,
    expected: torch.dtype,
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: cpu)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_dtype(asked, SimpleNamespace(dtype=stored)) == expected


def test_auto_takes_the_stored_type_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_dtype("auto", SimpleNamespace(dtype=torch.float16)) == torch.float16


@pytest.mark.parametrize(
    ("asked", "native", "expected"),
    [
        ("auto", True, torch.bfloat16),
        ("auto", False, torch.float16),
        ("bfloat16", False, torch.bfloat16),
    ],
)
def test_a_gpu_serves_in_a_type_that_it_need_not_emulate(
    monkeypatch: pytest.MonkeyPatch, asked: str, native: bool, expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: native)
    assert serving_dtype(asked, SimpleNamespace(dtype=torch.bfloat16)) == expected


def test_the_context_is_the_shorter_of_model_and_tokenizer() -> None:
    unlimited = SimpleNamespace(model_max_length=int(1e30))
    falcon = FalconConfig()
    assert context_length(falcon, unlimited) == 2048
    assert context_length(falcon, SimpleNamespace(model_max_length=1024)) == 1024
    nothing = SimpleNamespace(get_text_config=SimpleNamespace)
    with pytest.raises(StartupFailure, match="set --max_model_len"):
        context_length(nothing, unlimited)


async def test_a_longer_context_than_the_models_is_refused(tiny_model: Path) -> None:
    engine = TransformersEngine(EngineOptions("tiny", tiny_model, max_model_len=4096))
    with pytest.raises(StartupFailure, match="--max_model_len 4096 is above the model's own"):
        await engine.load()
    await engine.close()


@pytest.mark.parametrize("name", ["su", "yarn", "longrope"])
async def test_phi3_with_a_long_context_answers_under_each_name_of_its_rope(
    copy: Path, name: str
) -> None:
    file = copy / "config.json"
    config = json.loads(file.read_text())
    del config["rope_parameters"], config["dtype"]
    long = {
        "torch_dtype": "bfloat16",
        "max_position_embeddings": 131_072,
        "original_max_position_embeddings": 4096,
        "rope_theta": 10_000.0,
        "rope_scaling": {"type": name, "short_factor": [1.05] * 32, "long_factor": [1.3] * 32},
        "auto_map": {"AutoConfig": "configuration_phi3.Phi3Config"},
    }
    file.write_text(json.dumps({**config, **long}))
    change_tokenizer(copy, model_max_length=131_072)
    assert await answers(copy) == ("bfloat16", 131_072)


async def test_falcon_answers_without_its_code_and_without_padding(copy: Path) -> None:
    config = FalconConfig(
        vocab_size=386,
        hidden_size=64,
        num_hidden_layers=1,
        num_attention_heads=1,
        multi_query=True,
        parallel_attn=True,
        bias=False,
        new_decoder_architecture=False,
        eos_token_id=2,
        bos_token_id=2,
    )
    FalconForCausalLM(config).save_pretrained(copy)
    change_config(copy, auto_map={"AutoConfig": "configuration_falcon.FalconConfig"})
    change_tokenizer(copy, pad_token=None, model_max_length=2048)
    assert await answers(copy) == ("float32", 2048)


def change_tokenizer(folder: Path, **changes: Any) -> None:
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


async def answers(folder: Path) -> tuple[str, int]:
    """Let two prompts of different length be answered in one batch; the type and the context."""

    async def ask(prompt: str) -> None:
        request = Generation(id=prompt, sampling=Sampling(max_new_tokens=4), prompt=prompt)
        async with aclosing(engine.generate(request)) as events:
            assert isinstance([event async for event in events][-1], Finished)

    engine = TransformersEngine(EngineOptions("model", folder))
    info = await engine.load()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(engine.run())
        async with asyncio.TaskGroup() as asking:
            for prompt in ("Hello", "Tell me a joke"):
                asking.create_task(ask(prompt))
        running.cancel()
    await engine.close()
    return info.dtype, info.max_model_len


def test_a_given_chat_template_replaces_the_models(tiny_model: Path) -> None:
    loaded = load(tiny_model, LoadOptions(chat_template="{{ messages[0]['content'] }}!"))
    text = loaded.tokenizer.apply_chat_template([{"role": "user", "content": "a"}], tokenize=False)
    assert text == "a!"
