"""What vLLM is told and asked: pure decisions, so they hold where there is no vLLM and no GPU."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from moulds import mould
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from runtimes.engines.adapters import CONFIG, WEIGHTS, find
from runtimes.engines.contract import Delta, Finished, Generation, Message, Refused, Sampling
from runtimes.engines.lengths import Budget
from runtimes.engines.lora import Adapters
from runtimes.engines.options import EngineOptions, LoadOptions, Machine
from runtimes.engines.vllm import cluster, translate
from runtimes.engines.vllm.command import command, flags, parallel
from runtimes.engines.vllm.lora_files import prepare
from runtimes.failure import StartupFailure
from runtimes.serving.engine_choice import engine_maker, transformers_engine
from runtimes.serving.settings import Settings

GIB = 2**30


def options(**more: Any) -> EngineOptions:
    return EngineOptions(name="tiny", folder=Path("/weights"), **more)


def words(given: EngineOptions, **loras: tuple[Path, int]) -> str:
    return " ".join(command(given, socket=Path("/run/s"), name="tiny", loras=loras)[1:])


def test_the_server_is_told_model_name_and_socket() -> None:
    said = words(options(max_model_len=4096))
    assert said.startswith("-m vllm.entrypoints.openai.api_server --uds /run/s --model /weights")
    assert "--served-model-name tiny" in said
    assert "--max-model-len 4096" in said
    assert "--no-enable-log-requests" in said


def test_a_gpu_gives_the_longest_context_that_fits_unless_one_is_asked_for() -> None:
    gpu = Machine(1, 16 * GIB)
    assert "--max-model-len auto" in words(options(machine=gpu))
    assert "--max-model-len 4096" in words(options(machine=gpu, max_model_len=4096))
    assert "--max-model-len" not in words(options())


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param({}, "--enforce-eager", id="a-cpu"),
        pytest.param(
            {"machine": Machine(1, 80 * GIB), "weight_bytes": 14 * GIB},
            "--gpu-memory-utilization 0.84 --tensor-parallel-size 1",
            id="one-gpu",
        ),
        pytest.param(
            {"machine": Machine(4, 80 * GIB), "weight_bytes": 14 * GIB},
            "--gpu-memory-utilization 0.84 --data-parallel-size 4",
            id="a-small-model-is-copied-to-each-gpu",
        ),
        pytest.param(
            {"machine": Machine(4, 80 * GIB), "weight_bytes": 140 * GIB},
            "--gpu-memory-utilization 0.84 --tensor-parallel-size 4",
            id="a-large-model-is-cut-through-all",
        ),
        pytest.param(
            {
                "machine": Machine(8, 80 * GIB),
                "weight_bytes": 640 * GIB,
                "nodes": 2,
                "gpu_memory_utilization": 0.9,
            },
            "--gpu-memory-utilization 0.9 --tensor-parallel-size 8 --pipeline-parallel-size 2"
            " --distributed-executor-backend ray",
            id="nodes-hold-consecutive-parts",
        ),
    ],
)
def test_a_model_lies_on_gpus_and_nodes_as_it_fits(given: dict[str, Any], expected: str) -> None:
    assert " ".join(parallel(options(**given))) == expected


def test_the_users_own_flags_come_last_and_booleans_are_switches() -> None:
    own = {
        "max-model-len": 512,
        "enable_prefix_caching": False,
        "enforce-eager": True,
        "seed": None,
    }
    expected = "--max-model-len 512 --no-enable-prefix-caching --enforce-eager"
    assert " ".join(flags(own)) == expected
    assert words(options(vllm=own, max_model_len=4096)).endswith(expected)


def test_adapters_get_the_next_rank_that_vllm_has() -> None:
    said = words(options(), terse=(Path("/a"), 4), verse=(Path("/b"), 20))
    assert "--enable-lora --max-loras 2 --max-lora-rank 32 --lora-modules terse=/a verse=/b" in said
    with pytest.raises(StartupFailure, match="rank 600"):
        words(options(), verse=(Path("/b"), 600))


def test_eight_bits_are_not_vllms() -> None:
    with pytest.raises(StartupFailure, match="8 bits"):
        words(options(loading=LoadOptions(load_in_8bit=True)))


def test_a_merged_adapter_does_what_peft_does(tiny_model: Path, tmp_path: Path) -> None:
    shelf = tmp_path / "shelf"
    mould(tiny_model, shelf / "terse", seed=1, rank=4)
    mould(tiny_model, shelf / "verse", seed=2, rank=2, modules=("o_proj", "qkv_proj"))
    adapters = find(shelf, {"terse": 0.5, "verse": 0.25}, {})
    merged = prepare(adapters, tmp_path / "made", merge_as="tiny")
    assert merged == {"tiny": (tmp_path / "made" / "merged", 6)}
    tokens = torch.tensor([[5, 9, 200, 41]])
    results = []
    for found in (adapters, find(tmp_path / "made", {}, {})):
        model = AutoModelForCausalLM.from_pretrained(tiny_model)
        Adapters(model, found, "merge")
        with torch.inference_mode():
            results.append(model(tokens).logits)
    torch.testing.assert_close(results[0], results[1], atol=1e-5, rtol=1e-4)


def test_a_strength_is_part_of_the_file(tiny_model: Path, tmp_path: Path) -> None:
    mould(tiny_model, tmp_path / "shelf" / "verse", seed=1, rank=4)
    (adapter,) = find(tmp_path / "shelf", {"verse": 0.25}, {})
    ((name, (folder, rank)),) = prepare([adapter], tmp_path / "made").items()
    assert (name, rank) == ("verse", 4)
    assert json.loads((folder / CONFIG).read_text())["lora_alpha"] == 1
    original = load_file(adapter.folder / WEIGHTS)
    assert all(
        torch.equal(original[key], value) for key, value in load_file(folder / WEIGHTS).items()
    )
    (whole,) = find(tmp_path / "shelf", {}, {})
    assert prepare([whole], tmp_path / "none") == {"verse": (whole.folder, 4)}


def test_adapters_that_cannot_be_joined_say_why(tiny_model: Path, tmp_path: Path) -> None:
    for name in ("terse", "verse"):
        mould(tiny_model, tmp_path / name, seed=1)
    config = json.loads((tmp_path / "verse" / CONFIG).read_text())
    (tmp_path / "verse" / CONFIG).write_text(json.dumps(config | {"use_dora": True}))
    with pytest.raises(
        StartupFailure, match=r"verse cannot be merged for vLLM \(its use_dora is set\)"
    ):
        prepare(find(tmp_path, {}, {}), tmp_path / "made", merge_as="tiny")


def test_a_request_becomes_vllms() -> None:
    sampling = Sampling(temperature=0.5, top_k=10, top_p=0.9, seed=3, stop_strings=("END",))
    body = translate.complete(sampling, Budget(3, 7, 2), [1, 2, 3], "tiny")
    assert body["prompt"] == [1, 2, 3]
    assert (body["max_tokens"], body["min_tokens"]) == (7, 2)
    assert (body["temperature"], body["top_k"], body["top_p"], body["seed"]) == (0.5, 10, 0.9, 3)
    assert body["stop"] == ["END"]
    greedy = translate.complete(Sampling(do_sample=False), Budget(3, 7, 0), [1], "tiny")
    assert (greedy["temperature"], "seed" in greedy) == (0.0, False)
    ends = translate.complete(Sampling(eos_token_ids=(7,)), Budget(3, 7, 0), [1], "tiny")
    assert (ends["ignore_eos"], ends["stop_token_ids"]) == (True, [7])


def test_a_conversation_that_ends_with_the_assistant_is_gone_on_with() -> None:
    turns = (Message("user", "a"), Message("assistant", "b"))
    body = translate.tokenize(Generation(id="1", sampling=Sampling(), messages=turns), "tiny")
    assert (body["add_generation_prompt"], body["continue_final_message"]) == (False, True)


def test_vllms_events_become_ours() -> None:
    answer = translate.Answer(1)
    first = answer.take({"choices": [{"index": 0, "text": "a", "finish_reason": None}]})
    assert first == Delta("a", 1)
    answer.take({"choices": [{"index": 0, "text": "b", "finish_reason": "length"}]})
    answer.take({"choices": [], "usage": {"completion_tokens": 5}})
    assert answer.finish() == Finished(("ab",), 5, "length")


@pytest.mark.parametrize(
    ("status", "content", "expected"),
    [
        (400, b'{"error": {"message": "no such template"}}', Refused(400, "no such template")),
        (500, b"boom", Refused(503, "The model's engine failed", retry_after=5)),
        (400, b"[]", Refused(503, "The model's engine failed", retry_after=5)),
    ],
)
def test_what_vllm_refuses_is_told_in_our_words(
    status: int, content: bytes, expected: Refused
) -> None:
    assert vars(translate.refused(status, content)) == vars(expected)


def test_an_answer_that_breaks_off_is_no_answer() -> None:
    with pytest.raises(Refused):
        translate.Answer(1).finish()


def test_an_image_without_vllm_says_so_before_it_downloads_anything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    for asked in ({"engine": "vllm"}, {"nodes": 2, "leader_address": "first", "node_rank": 0}):
        with pytest.raises(
            StartupFailure, match="this image does not have: name the image's GPU build"
        ):
            engine_maker(Settings.model_validate(asked))
    assert engine_maker(Settings()) is transformers_engine


def test_nodes_join_the_first_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ray").write_text("#!/bin/sh\n")
    (tmp_path / "ray").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "--head --port=6379 --num-gpus=8" in " ".join(cluster.head_command(8))
    assert "--address=first:6379 --num-gpus=8" in " ".join(cluster.worker_command("first", 8))
    (tmp_path / "ray").unlink()
    with pytest.raises(StartupFailure, match="need the program `ray`"):
        cluster.head_command(8)
