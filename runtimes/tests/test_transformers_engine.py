"""What only a real model can show, on the tiny one."""

import asyncio
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from harness import Running, wait_until
from transformers import AutoModelForCausalLM, AutoTokenizer

from runtimes.engines.contract import (
    Delta,
    Event,
    Finished,
    Generation,
    Refused,
    Sampling,
    Started,
)
from runtimes.engines.options import EngineOptions, LoadOptions
from runtimes.engines.transformers_engine import TransformersEngine
from runtimes.engines.worker import Worker

GREEDY = {"do_sample": False, "max_new_tokens": 24}
LONG = {"max_new_tokens": 480, "min_length": 480}
PROMPTS = ["Tell me a joke", "Hi", "What is the weather like? It is warm and bright"]


@pytest.fixture
def ask(real: Running) -> Callable[..., str]:
    def ask(prompt: str, **kwargs: Any) -> str:
        return real.result(prompt=prompt, return_full_text=False, generate_kwargs=kwargs)

    return ask


def test_greedy_text_is_that_of_transformers_itself(
    ask: Callable[..., str], tiny_model: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    model: Any = AutoModelForCausalLM.from_pretrained(tiny_model)
    for prompt in PROMPTS:
        inputs = tokenizer(prompt, return_tensors="pt")
        output = model.generate(**inputs, do_sample=False, max_new_tokens=24)
        new = output[0, inputs["input_ids"].shape[1] :]
        assert ask(prompt, **GREEDY) == tokenizer.decode(new, skip_special_tokens=True)


def test_requests_in_one_batch_get_the_texts_they_get_alone(
    real: Running, ask: Callable[..., str]
) -> None:
    alone = [ask(prompt, **GREEDY) for prompt in PROMPTS]
    with ThreadPoolExecutor(len(PROMPTS)) as pool:
        together = list(pool.map(lambda prompt: ask(prompt, **GREEDY), PROMPTS))
    assert together == alone


def test_a_batch_is_faster_than_a_row_after_row(real: Running, ask: Callable[..., str]) -> None:
    def seconds(callers: int) -> float:
        begin = time.monotonic()
        with ThreadPoolExecutor(callers) as pool:
            list(pool.map(lambda _: ask("Hello", max_new_tokens=100, min_length=100), range(6)))
        return time.monotonic() - begin

    assert seconds(6) < seconds(1)


def test_a_seed_repeats_an_answer(ask: Callable[..., str]) -> None:
    first = ask("Hello", seed=11, max_new_tokens=30)
    assert ask("Hello", seed=11, max_new_tokens=30) == first
    assert ask("Hello", seed=12, max_new_tokens=30) != first


def test_lengths_are_kept(real: Running, ask: Callable[..., str]) -> None:
    def new_tokens(**kwargs: Any) -> float:
        before = real.metric("kaito_generation_tokens_total")
        ask("Hi", **kwargs)
        return real.metric("kaito_generation_tokens_total") - before

    prompt_tokens = 2
    assert new_tokens(max_new_tokens=5, min_length=50 - 45 + prompt_tokens) == 5
    assert new_tokens(max_length=40, min_length=40) == 40 - prompt_tokens
    assert new_tokens(min_length=200) == 200 - prompt_tokens


def test_a_stop_string_ends_the_text(ask: Callable[..., str]) -> None:
    whole = ask("Hello", seed=3, max_new_tokens=60)
    stop = whole[10:12]
    text = ask("Hello", seed=3, max_new_tokens=60, stop_strings=[stop])
    assert whole.startswith(text)
    assert stop in text
    assert len(text) < len(whole)


def test_beams_and_forced_tokens_work(ask: Callable[..., str]) -> None:
    kwargs = {"num_beams": 3, "do_sample": False, "early_stopping": True, "length_penalty": 0.5}
    assert ask("Hello", max_new_tokens=10, **kwargs)
    assert ask("Hello", max_new_tokens=10, num_beams=2, num_return_sequences=2)
    assert ask("Hello", max_new_tokens=3, forced_eos_token_id=70, no_repeat_ngram_size=2)


def test_banned_tokens_are_not_made(ask: Callable[..., str], tiny_model: Path) -> None:
    greedy = ask("Hello", **GREEDY)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    banned = [[token] for token in tokenizer(greedy)["input_ids"]]
    other = ask("Hello", bad_words_ids=banned, **GREEDY)
    made = {(token,) for token in tokenizer(other)["input_ids"]}
    assert other != greedy
    assert not made & {tuple(word) for word in banned}


LENGTHS = {
    "prompt-fills-max-length": (
        {"prompt": "a b c d e f g h", "generate_kwargs": {"max_length": 5}},
        "leave no room in max_length 5",
    ),
    "answer-too-long": (
        {"prompt": "a", "generate_kwargs": {"max_new_tokens": 600}},
        "limit of 512",
    ),
    "both-too-long": (
        {"prompt": "a b c d " * 100, "generate_kwargs": {"max_new_tokens": 500}},
        "above the model's context of 512",
    ),
    "default-length-too-short": ({"prompt": "a b c d " * 100}, "leave no room in max_length 200"),
    "min-above-max": (
        {"prompt": "a", "generate_kwargs": {"min_length": 100, "max_length": 50}},
        "min_length 100",
    ),
    "unknown-token": (
        {"prompt": "a", "generate_kwargs": {"bad_words_ids": [[386]]}},
        "386 is no token of this model",
    ),
}


@pytest.mark.parametrize(("body", "text"), LENGTHS.values(), ids=LENGTHS.keys())
def test_what_does_not_fit_the_model_is_refused_with_numbers(
    real: Running, body: dict[str, Any], text: str
) -> None:
    answer = real.chat(**body)
    assert answer.status_code == 400
    assert text in answer.json()["detail"]


def test_a_hole_drops_the_left_of_a_long_prompt(real: Running, ask: Callable[..., str]) -> None:
    words = "a b c d e f g h " * 100
    kwargs = {"max_new_tokens": 100, "do_sample": False}
    trimmed = real.result(
        prompt=words, return_full_text=False, handle_long_generation="hole", generate_kwargs=kwargs
    )
    assert trimmed
    again = real.result(
        prompt="x y z " + words,
        return_full_text=False,
        handle_long_generation="hole",
        generate_kwargs=kwargs,
    )
    assert again == trimmed


def test_a_client_that_leaves_stops_the_model(real: Running) -> None:
    before = real.metric("kaito_generation_tokens_total")
    with pytest.raises(httpx.ReadTimeout):
        real.client.post("/chat", json={"prompt": "Hi", "generate_kwargs": LONG}, timeout=0.3)
    wait_until(lambda: real.metric("kaito_requests_running") == 0, 2)
    real.result(prompt="Hi", generate_kwargs={"max_new_tokens": 1})
    assert real.metric("kaito_generation_tokens_total") - before < 480


def test_a_failing_generation_is_a_500_and_the_next_one_works(
    real: Running, tiny_model: Path
) -> None:
    config = json.loads((tiny_model / "generation_config.json").read_text())
    possible = [[token] for token in range(386) if token not in config["suppress_tokens"]]
    answer = real.chat(prompt="Hi", generate_kwargs={"bad_words_ids": possible})
    assert (answer.status_code, answer.json()) == (500, {"detail": "Generation failed"})
    assert real.result(prompt="Hi", generate_kwargs={"max_new_tokens": 2})


async def start_engine(group: asyncio.TaskGroup, folder: Path, **loading: Any) -> Any:
    engine = TransformersEngine(
        EngineOptions("tiny", folder, max_new_tokens=16, loading=LoadOptions(**loading))
    )
    await engine.load()
    return engine, group.create_task(engine.run())


async def events_of(engine: TransformersEngine, **request: Any) -> list[Event]:
    async with aclosing(engine.generate(Generation(id="test", **request))) as events:
        return [event async for event in events]


@pytest.mark.parametrize("loading", [{"load_in_4bit": True}, {"torch_dtype": "bfloat16"}])
async def test_smaller_weights_answer_too_and_deltas_are_the_text(
    tiny_model: Path, loading: dict[str, Any]
) -> None:
    async with asyncio.TaskGroup() as group:
        engine, running = await start_engine(group, tiny_model, **loading)
        sampling = Sampling(max_new_tokens=12)
        events = await events_of(engine, prompt="Hello", sampling=sampling)
        running.cancel()
    await engine.close()
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Finished)
    deltas = [event for event in events if isinstance(event, Delta)]
    assert sum(delta.tokens for delta in deltas) == events[-1].new_tokens
    assert "".join(delta.text for delta in deltas) == events[-1].texts[0]


@pytest.mark.parametrize(
    ("error", "status", "broken"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), 503, False),
        (torch.AcceleratorError("CUDA error: device-side assert triggered", 710), 503, True),
    ],
)
async def test_what_a_gpu_does_wrong_is_told_apart(
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    status: int,
    broken: bool,
) -> None:
    def fails(worker: Worker, batch: Any) -> None:
        raise error

    async with asyncio.TaskGroup() as group:
        engine, running = await start_engine(group, tiny_model)
        monkeypatch.setattr(Worker, "run", fails)
        with pytest.raises(Refused) as refused:
            await events_of(engine, prompt="Hello", sampling=Sampling())
        running.cancel()
    await engine.close()
    assert refused.value.status == status
    assert bool(engine.problems()) is broken
