"""LoRA adapters: found, checked before they are loaded, merged or selected, and heard in the answer."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
from harness import Running, running, wait_until
from moulds import mould
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from runtimes.engines.adapters import CONFIG, WEIGHTS, find
from runtimes.engines.lora import Adapters
from runtimes.failure import StartupFailure
from runtimes.serving.engine_choice import transformers_engine

Make = Callable[..., Path]
GREEDY = {"do_sample": False, "max_new_tokens": 24}


@pytest.fixture(scope="module")
def make(tiny_model: Path) -> Make:
    return partial(mould, tiny_model)


@pytest.fixture(scope="module")
def shelf(make: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two adapters of different ranks on different parts of the model."""
    folder = tmp_path_factory.mktemp("adapters")
    make(folder / "terse", seed=1, rank=4)
    make(folder / "verse", seed=2, rank=2, modules=("o_proj", "qkv_proj"))
    return folder


def tiny(path: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(path)


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        result: torch.Tensor = model(torch.tensor([[5, 9, 200, 41]])).logits
    return result


def test_adapters_are_found_in_order_with_rank_and_strength(shelf: Path) -> None:
    terse, verse = find(shelf, {"verse": 0.5}, {"terse": "0.25", "verse": "0.1"})
    assert (terse.name, terse.rank, terse.strength) == ("terse", 4, 0.25)
    assert (verse.name, verse.rank, verse.strength) == ("verse", 2, 0.5)
    assert [each.strength for each in find(shelf, {}, {"terse": "/bin", "verse": "7"})] == [1, 1]


def test_no_folder_means_no_adapters(tmp_path: Path) -> None:
    assert find(tmp_path / "none", {}, {}) == ()
    (tmp_path / "empty").mkdir()
    assert find(tmp_path, {}, {}) == ()
    with pytest.raises(StartupFailure, match=r"no adapter verse in .* found there: none"):
        find(tmp_path, {"verse": 1.0}, {})


def _edit(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | changes))


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "not-json": (lambda folder: (folder / CONFIG).write_text("{"), "cannot be used"),
    "a-list": (lambda folder: (folder / CONFIG).write_text("[]"), "peft_type"),
    "another-kind": (lambda folder: _edit(folder, peft_type="IA3"), "peft_type"),
    "a-huge-rank": (lambda folder: _edit(folder, r=4096), "not within 1 and 256"),
    "a-huge-rank-somewhere": (
        lambda folder: _edit(folder, rank_pattern={"o_proj": 999}),
        "not within 1 and 256",
    ),
    "no-rank": (lambda folder: _edit(folder, r=None), "not within 1 and 256"),
    "pickled": (
        lambda folder: (folder / WEIGHTS).rename(folder / "adapter_model.bin"),
        "other formats can run code",
    ),
    "cut-off": (
        lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-50]),
        "ends before its last tensor",
    ),
    "a-lying-header": (
        lambda folder: (folder / WEIGHTS).write_bytes(b"\xff" * 8 + b"{}"),
        "its header does not fit",
    ),
    "empty": (lambda folder: (folder / WEIGHTS).write_bytes(b""), "cannot be used"),
    "other-tensors": (
        lambda folder: save_file({"weight": torch.zeros(2)}, folder / WEIGHTS),
        "holds no LoRA tensor",
    ),
}


@pytest.mark.parametrize(("damage", "text"), BROKEN.values(), ids=BROKEN.keys())
def test_what_cannot_be_an_adapter_is_refused_unread(
    make: Make, tmp_path: Path, damage: Callable[[Path], Any], text: str
) -> None:
    damage(make(tmp_path / "verse", seed=1))
    with pytest.raises(StartupFailure, match=text) as caught:
        find(tmp_path, {}, {})
    assert "adapter verse" in str(caught.value)


def test_an_adapter_of_another_model_names_what_does_not_fit(
    make: Make, tmp_path: Path, tiny_model: Path
) -> None:
    folder = make(tmp_path / "verse", seed=1)
    tensors = load_file(folder / WEIGHTS)
    wide = {
        name: torch.zeros(t.shape[0], 512) if "_A" in name else t for name, t in tensors.items()
    }
    save_file(wide, folder / WEIGHTS)
    with pytest.raises(StartupFailure, match="is for 512 features, the model has 128"):
        Adapters(tiny(tiny_model), find(tmp_path, {}, {}), "merge")
    moved = {name.replace("layers.1", "layers.7"): t for name, t in tensors.items()}
    save_file(moved, folder / WEIGHTS)
    with pytest.raises(StartupFailure, match=r"no part model\.layers\.7"):
        Adapters(tiny(tiny_model), find(tmp_path, {}, {}), "merge")


def test_an_adapter_with_values_that_are_no_numbers_is_refused(
    make: Make, tmp_path: Path, tiny_model: Path
) -> None:
    folder = make(tmp_path / "verse", seed=1)
    tensors = load_file(folder / WEIGHTS)
    next(iter(tensors.values()))[0, 0] = float("nan")
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(StartupFailure, match="no numbers"):
        Adapters(tiny(tiny_model), find(tmp_path, {}, {}), "merge")


def test_merging_is_the_exact_sum_of_each_effect_times_its_strength(
    shelf: Path, tiny_model: Path
) -> None:
    strengths = {"terse": 0.5, "verse": 1.0}
    merged = tiny(tiny_model)
    Adapters(merged, find(shelf, strengths, {}), "merge")
    by_hand = tiny(tiny_model)
    weights = dict(by_hand.named_parameters())
    with torch.no_grad():
        for name, strength in strengths.items():
            tensors = load_file(shelf / name / WEIGHTS)
            for path in {key.split(".lora_")[0] for key in tensors}:
                a, b = (tensors[f"{path}.lora_{side}.weight"] for side in "AB")
                target = weights[path.removeprefix("base_model.model.") + ".weight"]
                target += strength * (b @ a)  # alpha equals the rank, so the scale is 1
    torch.testing.assert_close(logits(merged), logits(by_hand), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(logits(merged), logits(tiny(tiny_model)), atol=1e-2)


def test_an_adapter_of_no_strength_changes_nothing(shelf: Path, tiny_model: Path) -> None:
    model = tiny(tiny_model)
    Adapters(model, find(shelf, {"terse": 0, "verse": 0}, {}), "merge")
    torch.testing.assert_close(logits(model), logits(tiny(tiny_model)))


@pytest.fixture(scope="module")
def selecting(shelf: Path, tiny_model: Path) -> Any:
    with running(
        transformers_engine,
        pretrained_model_name_or_path=str(tiny_model),
        served_model_name="tiny",
        adapters_dir=shelf,
        adapter_mode="select",
    ) as server:
        server.wait_ready()
        yield server


def client(server: Running) -> openai.OpenAI:
    transport: Any = server.client
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", http_client=transport)


def test_a_merged_server_answers_with_its_adapters(
    real: Running, shelf: Path, tiny_model: Path
) -> None:
    with running(
        transformers_engine,
        pretrained_model_name_or_path=str(tiny_model),
        served_model_name="tiny",
        adapters_dir=shelf,
        adapter={"verse": 0.5},
    ) as server:
        server.wait_ready()
        assert [model.id for model in client(server).models.list()] == ["tiny"]
        assert server.metric("kaito_adapter_info", name="terse", rank="4", strength="1") == 1
        assert server.metric("kaito_adapter_info", name="verse", rank="2", strength="0.5") == 1
        adapted = server.result(prompt="Tell me a joke", generate_kwargs=GREEDY)
    assert adapted != real.result(prompt="Tell me a joke", generate_kwargs=GREEDY)


def test_a_request_selects_its_adapter_by_name(selecting: Running, real: Running) -> None:
    models = client(selecting).models.list().data
    assert [(model.id, getattr(model, "parent", None)) for model in models] == [
        ("tiny", None),
        ("terse", "tiny"),
        ("verse", "tiny"),
    ]

    def ask(name: str) -> str:
        answer = client(selecting).completions.create(
            model=name, prompt="Tell me a joke", temperature=0, max_tokens=24
        )
        assert answer.model == name
        return answer.choices[0].text

    answers = [ask(name) for name in ("tiny", "terse", "verse", "tiny", "verse")]
    assert answers[0] == answers[3]
    assert answers[2] == answers[4]
    assert len(set(answers)) == 3
    bare = real.result(prompt="Tell me a joke", return_full_text=False, generate_kwargs=GREEDY)
    chat = selecting.result(prompt="Tell me a joke", return_full_text=False, generate_kwargs=GREEDY)
    assert answers[0] == bare == chat


def test_a_server_whose_adapter_is_broken_says_so_and_ends(
    make: Make, tmp_path: Path, tiny_model: Path
) -> None:
    (make(tmp_path / "verse", seed=1) / WEIGHTS).write_bytes(b"")
    with (
        pytest.raises(StartupFailure, match="adapter verse"),
        running(
            transformers_engine,
            pretrained_model_name_or_path=str(tiny_model),
            adapters_dir=tmp_path,
        ) as server,
    ):
        wait_until(lambda: server.server.stopping)
