"""The contract of POST /chat, on every engine."""

import json
from typing import Any

import pytest
from fake_engine import Script
from harness import Running

from runtimes.engines.contract import Message, Sampling

GREEDY = {"do_sample": False, "max_new_tokens": 8}


def test_the_result_holds_the_prompt_and_the_new_text(either: Running) -> None:
    whole = either.result(prompt="Tell me", generate_kwargs=GREEDY)
    new = either.result(prompt="Tell me", return_full_text=False, generate_kwargs=GREEDY)
    assert whole == "Tell me" + new


def test_messages_give_the_assistants_text_alone(either: Running) -> None:
    messages = [{"role": "user", "content": "Tell me a joke"}]
    text = either.result(messages=messages, generate_kwargs=GREEDY)
    assert text
    assert "Tell me a joke" not in text


def test_the_prefix_is_read_but_not_part_of_the_result(either: Running) -> None:
    assert either.result(prompt="joke", prefix="A ", generate_kwargs=GREEDY).startswith("joke")


def test_several_sequences_are_put_into_one_result(either: Running) -> None:
    kwargs = {"max_new_tokens": 4, "num_return_sequences": 3}
    assert either.result(prompt="Hello", generate_kwargs=kwargs).count("Hello") == 3


@pytest.mark.parametrize("kwargs", [None, {}, {"max_length": None, "top_k": None}])
def test_null_kwargs_are_the_defaults(either: Running, kwargs: Any) -> None:
    assert either.result(prompt="Hello", generate_kwargs=kwargs).startswith("Hello")


def test_every_documented_kwarg_is_taken(either: Running) -> None:
    documented = {
        "max_length": 40,
        "min_length": 0,
        "do_sample": True,
        "early_stopping": False,
        "num_beams": 1,
        "num_beam_groups": 1,
        "diversity_penalty": 0.0,
        "temperature": 1.0,
        "top_k": 10,
        "top_p": 1,
        "typical_p": 1,
        "repetition_penalty": 1,
        "length_penalty": 1,
        "no_repeat_ngram_size": 0,
        "encoder_no_repeat_ngram_size": 0,
        "bad_words_ids": None,
        "num_return_sequences": 1,
        "output_scores": False,
        "return_dict_in_generate": False,
        "forced_bos_token_id": None,
        "forced_eos_token_id": None,
        "remove_invalid_values": None,
    }
    answer = either.chat(
        prompt="Hello",
        return_full_text=False,
        clean_up_tokenization_spaces=False,
        prefix=None,
        handle_long_generation=None,
        generate_kwargs=documented,
    )
    assert answer.status_code == 200, answer.text


BAD: dict[str, tuple[dict[str, Any], int, str]] = {
    "nothing": ({}, 400, "Text generation parameter prompt required"),
    "an-empty-prompt": ({"prompt": ""}, 400, "Text generation parameter prompt required"),
    "no-messages": ({"messages": []}, 400, "Text generation parameter prompt required"),
    "both": (
        {"prompt": "a", "messages": [{"role": "user", "content": "b"}]},
        400,
        "Invalid pipeline type",
    ),
    "a-number-as-prompt": ({"prompt": 5}, 422, "string_type"),
    "not-a-number-as-prompt": ({"prompt": float("nan")}, 422, "string_type"),
    "messages-without-role": ({"messages": [{"content": "a"}]}, 422, "missing"),
    "an-unknown-trim": ({"prompt": "a", "handle_long_generation": "x"}, 422, "literal_error"),
    "kwargs-as-a-list": ({"prompt": "a", "generate_kwargs": []}, 422, "model"),
}
BAD_KWARGS: dict[str, tuple[dict[str, Any], str]] = {
    "an-unknown-key": ({"assistant_model": "gpt2"}, "assistant_model is not accepted"),
    "a-misspelt-key": ({"temperture": 1}, "did you mean temperature?"),
    "too-many-beams": ({"num_beams": 10_000}, "generate_kwargs.num_beams 10000"),
    "no-beams": ({"num_beams": 0}, "generate_kwargs.num_beams 0"),
    "an-endless-length": ({"max_length": 10**9}, "generate_kwargs.max_length 1000000000"),
    "no-new-tokens": ({"max_new_tokens": 0}, "generate_kwargs.max_new_tokens 0"),
    "a-cold-model": ({"temperature": 0}, "generate_kwargs.temperature 0"),
    "temperature-that-is-no-number": ({"temperature": float("nan")}, "generate_kwargs.temperature"),
    "infinite-temperature": ({"temperature": float("inf")}, "generate_kwargs.temperature"),
    "top-p-above-one": ({"top_p": 1.5}, "generate_kwargs.top_p 1.5"),
    "top-p-zero": ({"top_p": 0}, "generate_kwargs.top_p 0"),
    "negative-top-k": ({"top_k": -1}, "generate_kwargs.top_k -1"),
    "no-penalty": ({"repetition_penalty": 0}, "generate_kwargs.repetition_penalty 0"),
    "beam-groups": ({"num_beam_groups": 2}, "generate_kwargs.num_beam_groups 2"),
    "diversity": ({"diversity_penalty": 0.5}, "generate_kwargs.diversity_penalty 0.5"),
    "many-sequences": ({"num_return_sequences": 100}, "num_return_sequences 100"),
    "greedy-sequences": (
        {"num_return_sequences": 2, "do_sample": False},
        "num_return_sequences above num_beams needs do_sample true",
    ),
    "negative-token": ({"eos_token_id": -1}, "eos_token_id"),
    "an-empty-bad-word": ({"bad_words_ids": [[]]}, "bad_words_ids"),
    "many-bad-words": ({"bad_words_ids": [[1]] * 300}, "bad_words_ids"),
    "an-empty-stop": ({"stop_strings": [""]}, "stop_strings"),
    "stops-with-beams": (
        {"stop_strings": ["a"], "num_beams": 2},
        "stop_strings need num_beams 1",
    ),
    "negative-seed": ({"seed": -1}, "generate_kwargs.seed -1"),
}


@pytest.mark.parametrize(("body", "status", "text"), BAD.values(), ids=BAD.keys())
def test_bad_bodies_are_refused(
    either: Running, body: dict[str, Any], status: int, text: str
) -> None:
    answer = either.client.post("/chat", content=json.dumps(body))
    assert answer.status_code == status
    detail = answer.json()["detail"]
    if status == 400:
        assert detail == text
        assert answer.json()["hint"]
    else:
        assert text in detail[0]["type"]


@pytest.mark.parametrize(("kwargs", "text"), BAD_KWARGS.values(), ids=BAD_KWARGS.keys())
def test_kwargs_that_no_model_may_be_asked_for_are_named(
    either: Running, kwargs: dict[str, Any], text: str
) -> None:
    answer = either.client.post(
        "/chat", content=json.dumps({"prompt": "a", "generate_kwargs": kwargs})
    )
    assert answer.status_code == 400, answer.text
    assert text in answer.json()["detail"]


@pytest.mark.parametrize("content", [b"", b"nope", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_json_object_is_refused(either: Running, content: bytes) -> None:
    answer = either.client.post("/chat", content=content)
    assert answer.status_code in {400, 422}
    assert answer.json()["detail"]


def test_the_conversational_pipeline_asks_for_messages(start: Any) -> None:
    server = start(pipeline="conversational")
    assert server.chat().json()["detail"] == "Conversational parameter messages required"
    assert server.result(prompt="either way works") == "either way worksEITHER WAY WORKS"


def test_an_engine_gets_the_defaults_of_v03(fake: Running, script: Script) -> None:
    fake.result(prompt="Hello")
    assert script.seen[0].sampling == Sampling()
    assert Sampling() == Sampling(
        max_length=None,  # 200, cut to the model's context
        max_new_tokens=None,
        min_length=0,
        do_sample=True,
        early_stopping=False,
        num_beams=1,
        temperature=1.0,
        top_k=10,
        top_p=1.0,
        typical_p=1.0,
        repetition_penalty=1.0,
        num_return_sequences=1,
    )


def test_an_engine_gets_what_was_asked_for(fake: Running, script: Script) -> None:
    fake.result(
        messages=[{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Hi"}],
        handle_long_generation="hole",
        clean_up_tokenization_spaces=True,
        generate_kwargs={
            "max_length": 50,
            "eos_token_id": 7,
            "stop_strings": "END",
            "bad_words_ids": [[1, 2], [3]],
            "seed": 4,
        },
    )
    request = script.seen[0]
    assert request.prompt is None
    assert request.messages == (Message("system", "Be brief"), Message("user", "Hi"))
    assert request.trim_prompt
    assert request.clean_up_spaces
    assert request.sampling == Sampling(
        max_length=50,
        eos_token_ids=(7,),
        stop_strings=("END",),
        bad_words_ids=((1, 2), (3,)),
        seed=4,
    )


def test_the_api_description_lists_every_kwarg_with_its_default(fake: Running) -> None:
    schemas = fake.client.get("/openapi.json").json()["components"]["schemas"]
    properties = schemas["GenerateKwargs"]["properties"]
    assert properties["max_length"]["default"] == 200
    assert properties["top_k"]["default"] == 10
    assert all(entry["description"] for entry in properties.values())
