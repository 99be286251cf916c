"""OpenAI's interface, asked with OpenAI's own client, on every engine."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest
from fake_engine import Script
from harness import Running, wait_until

QUESTION: Any = [{"role": "user", "content": "Tell me a joke"}]
GREEDY: Any = {"temperature": 0, "max_tokens": 8}


def client(server: Running, key: str = "unused") -> openai.OpenAI:
    transport: Any = server.client  # its own kind is a newer httpx, with the same methods
    return openai.OpenAI(
        base_url=f"{server.url}/v1", api_key=key, max_retries=0, http_client=transport
    )


def ask(server: Running, path: str = "/v1/chat/completions", **body: Any) -> httpx.Response:
    if path.endswith("/chat/completions"):
        body.setdefault("messages", QUESTION)
    return server.client.post(path, content=json.dumps(body))


def tells_of_the_context(error: openai.APIStatusError) -> bool:
    """By OpenAI's code for it, or in the words of vLLM, whose code is the status."""
    return error.code == "context_length_exceeded" or "maximum context length" in str(error)


def model_name(server: Running) -> str:
    return client(server).models.list().data[0].id


def test_the_served_model_is_listed(either: Running) -> None:
    (model,) = client(either).models.list().data
    assert model.owned_by in {"kaito", "vllm"}


def test_one_model_can_be_asked_for(shared_fake: Running) -> None:
    (model,) = client(shared_fake).models.list().data
    assert client(shared_fake).models.retrieve(model.id) == model
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        client(shared_fake).models.retrieve("gpt-9")


def test_a_conversation_is_answered(either: Running) -> None:
    name = model_name(either)
    answer = client(either).chat.completions.create(model=name, messages=QUESTION, **GREEDY)
    assert answer.object == "chat.completion"
    assert answer.model == name
    (choice,) = answer.choices
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.finish_reason in {"stop", "length"}
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 0
    assert answer.usage.completion_tokens > 0
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_text_is_continued(either: Running) -> None:
    name = model_name(either)
    answer = client(either).completions.create(model=name, prompt="Tell me", **GREEDY)
    assert answer.object == "text_completion"
    assert answer.choices[0].text
    echoed = client(either).completions.create(model=name, prompt="Tell me", echo=True, **GREEDY)
    assert echoed.choices[0].text == "Tell me" + answer.choices[0].text


def test_a_streamed_conversation_is_the_whole_one_in_pieces(either: Running) -> None:
    name, create = model_name(either), client(either).chat.completions.create
    whole = create(model=name, messages=QUESTION, **GREEDY)
    events = list(
        create(
            model=name,
            messages=QUESTION,
            stream=True,
            stream_options={"include_usage": True},
            **GREEDY,
        )
    )
    assert events[0].choices[0].delta.role == "assistant"
    texts = [event.choices[0].delta.content or "" for event in events[:-1]]
    assert "".join(texts) == whole.choices[0].message.content
    assert len([text for text in texts if text]) > 1
    assert events[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert events[-1].choices == []
    assert events[-1].usage == whole.usage
    assert {event.object for event in events} == {"chat.completion.chunk"}
    assert len({event.id for event in events}) == 1


def test_a_streamed_text_is_the_whole_one_in_pieces(either: Running) -> None:
    name, create = model_name(either), client(either).completions.create
    whole = create(model=name, prompt="Tell me a joke", echo=True, **GREEDY)
    events = list(create(model=name, prompt="Tell me a joke", echo=True, stream=True, **GREEDY))
    assert "".join(event.choices[0].text for event in events) == whole.choices[0].text
    assert all(event.usage is None for event in events)


def test_chat_streams_too(either: Running) -> None:
    kwargs = {"do_sample": False, "max_new_tokens": 8}
    body = {"prompt": "Tell me a joke", "generate_kwargs": kwargs}
    whole = either.result(**body)
    with either.client.stream("POST", "/chat", json={**body, "stream": True}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    assert lines[-1] == "[DONE]"
    *deltas, last = map(json.loads, lines[:-1])
    assert last == {"Result": whole}
    assert "Tell me a joke" + "".join(event["delta"] for event in deltas) == whole


@pytest.mark.parametrize("stop", ["THREE", ["FOUR", " THREE"], ["E TH"]])
def test_an_answer_ends_before_its_stop(shared_fake: Running, stop: Any) -> None:
    """Also when a stop lies across two pieces, and when a piece only begins like one."""
    messages: Any = [{"role": "user", "content": "one three two three four"}]
    create = client(shared_fake).chat.completions.create
    whole = create(model="", messages=messages, stop=stop).choices[0].message.content
    events = create(model="", messages=messages, stop=stop, stream=True)
    assert "".join(event.choices[0].delta.content or "" for event in events) == whole
    text = "ONE THREE TWO THREE FOUR"
    stops = [stop] if isinstance(stop, str) else stop
    assert whole == text[: min(text.index(each) for each in stops)]


def test_the_real_engine_ends_an_answer_at_its_stop(real: Running) -> None:
    create = client(real).completions.create
    whole = create(model="tiny", prompt="Tell me", temperature=0, max_tokens=16).choices[0].text
    stop = whole[4:6]
    answer = create(model="tiny", prompt="Tell me", temperature=0, max_tokens=16, stop=stop)
    assert answer.choices[0].text == whole[: whole.index(stop)]
    assert answer.choices[0].finish_reason == "stop"


def test_without_a_limit_the_answer_gets_the_room_there_is(fake: Running, script: Script) -> None:
    client(fake).chat.completions.create(model="fake", messages=QUESTION)
    client(fake).completions.create(model="fake", prompt="a")
    assert script.seen[0].sampling.all_room
    assert (script.seen[1].sampling.max_new_tokens, script.seen[1].sampling.all_room) == (16, False)


def test_an_engine_gets_what_was_asked_for(fake: Running, script: Script) -> None:
    client(fake).chat.completions.create(
        model="fake",
        messages=[
            {"role": "developer", "content": "Be brief"},
            {
                "role": "user",
                "content": [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}],
            },
        ],
        max_completion_tokens=5,
        temperature=0.5,
        top_p=0.9,
        seed=3,
        stop="END",
        user="someone",
        extra_body={"top_k": 4, "repetition_penalty": 1.5},
    )
    request = script.seen[0]
    assert [(item.role, item.content) for item in request.messages] == [
        ("system", "Be brief"),
        ("user", "Hi"),
    ]
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.5, 0.9, 4)
    assert (sampling.max_new_tokens, sampling.seed, sampling.stop_strings) == (5, 3, ("END",))
    assert (sampling.repetition_penalty, sampling.do_sample) == (1.5, True)


BAD: dict[str, tuple[dict[str, Any], int, str]] = {
    "an-unknown-key": ({"assistant_model": "a"}, 400, "assistant_model is not accepted"),
    "a-misspelt-key": ({"temprature": 1}, 400, "did you mean temperature?"),
    "hot": ({"temperature": 99}, 400, "temperature 99"),
    "not-a-number": ({"temperature": float("nan")}, 400, "temperature nan"),
    "two-answers": ({"n": 2}, 400, "n 2"),
    "no-tokens": ({"max_tokens": 0}, 400, "max_tokens 0"),
    "endless-tokens": ({"max_tokens": 10**9}, 400, "max_tokens 1000000000"),
    "penalty": ({"frequency_penalty": 0.5}, 400, "frequency_penalty 0.5"),
    "tools": ({"tools": [{"type": "function"}]}, 400, "tools"),
    "json": ({"response_format": {"type": "json_object"}}, 400, "response_format.type"),
    "logprobs": ({"logprobs": True}, 400, "logprobs True"),
    "bias": ({"logit_bias": {"5": 1}}, 400, "logit_bias"),
    "no-messages": ({"messages": []}, 400, "messages"),
    "an-image": (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]},
        422,
        "messages.0.content",
    ),
    "a-tool's-turn": ({"messages": [{"role": "tool", "content": "a"}]}, 400, "messages.0.role"),
    "a-word-for-a-number": ({"max_tokens": "many"}, 422, "max_tokens 'many'"),
    "another-model": ({"model": "gpt-9"}, 404, "The model 'gpt-9' does not exist"),
}


@pytest.mark.parametrize(("body", "status", "text"), BAD.values(), ids=BAD.keys())
def test_what_cannot_be_honoured_is_refused_by_name(
    shared_fake: Running, body: dict[str, Any], status: int, text: str
) -> None:
    answer = ask(shared_fake, **body)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert text in error["message"]
    assert error["type"] == "invalid_request_error"
    assert set(error) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("prompt", ["", [], ["a", "b"], [1, 2], None])
def test_a_text_completion_takes_one_prompt(shared_fake: Running, prompt: Any) -> None:
    answer = ask(shared_fake, "/v1/completions", prompt=prompt)
    assert answer.status_code in {400, 422}
    assert "prompt" in answer.json()["error"]["message"]


@pytest.mark.parametrize("content", [b"", b"nope", b"[" * 100_000])
def test_what_is_no_json_object_is_refused(shared_fake: Running, content: bytes) -> None:
    answer = shared_fake.client.post("/v1/completions", content=content)
    assert answer.status_code in {400, 422}
    assert answer.json()["error"]["message"]


def test_pages_that_are_not_there_answer_in_the_same_shape(shared_fake: Running) -> None:
    for answer in (
        shared_fake.client.get("/v1/embeddings"),
        shared_fake.client.get("/v1/completions"),
    ):
        assert answer.status_code in {404, 405}
        assert answer.json()["error"]["type"] == "invalid_request_error"


def test_a_prompt_longer_than_the_context_is_named_so(real: Running) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client(real).completions.create(model="tiny", prompt="a b c " * 1000)
    assert tells_of_the_context(caught.value)
    long: Any = [{"role": "user", "content": "a b c " * 1000}]
    with pytest.raises(openai.BadRequestError):
        client(real).chat.completions.create(model="tiny", messages=long)


def test_a_streamed_request_is_refused_before_it_streams(real: Running) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client(real).completions.create(model="tiny", prompt="a b c " * 1000, stream=True)
    assert tells_of_the_context(caught.value)


def test_a_full_line_is_a_rate_limit(start: Any, script: Script) -> None:
    script.held_answers = True
    server = start(max_queue=1, served_model_name="fake")
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(ask, server) for _ in range(2)]
        wait_until(lambda: server.metric("kaito_requests_waiting") == 1)
        with pytest.raises(openai.RateLimitError) as caught:
            client(server).chat.completions.create(model="fake", messages=QUESTION, stream=True)
        script.held_answers = False
        assert [answer.result().status_code for answer in asked] == [200, 200]
    assert caught.value.code == "rate_limit_exceeded"
    assert caught.value.response.headers["retry-after"] == "1"


def test_a_client_that_leaves_a_stream_ends_its_work(fake: Running, script: Script) -> None:
    script.held_answers = True
    body = {"messages": QUESTION, "stream": True}
    with fake.client.stream("POST", "/v1/chat/completions", json=body) as answer:
        assert answer.status_code == 200
        lines = answer.iter_lines()  # kept, because its end would be the stream's
        assert next(lines).startswith("data: {")
        assert script.abandoned == 0
    wait_until(lambda: script.abandoned == 1)
    route = "/v1/chat/completions"
    wait_until(lambda: fake.metric("kaito_requests_total", route=route, code="499") == 1)
    assert fake.metric("kaito_requests_running") == 0


def test_a_stream_that_is_late_says_so_and_ends(start: Any, script: Script) -> None:
    script.held_answers = True
    server = start(request_timeout=0.3, served_model_name="fake")
    body = {"messages": QUESTION, "stream": True}
    with server.client.stream("POST", "/v1/chat/completions", json=body) as answer:
        events = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    assert json.loads(events[-1])["error"]["code"] == "timeout"
    assert script.abandoned == 1
    counted = {"route": "/v1/chat/completions", "code": "504"}
    wait_until(lambda: server.metric("kaito_requests_total", **counted) == 1)


def test_streams_share_the_models_steps(real: Running) -> None:
    """Four streams at once get the text that each gets alone."""

    def read(word: str) -> str:
        events = client(real).completions.create(
            model="tiny", prompt=word, stream=True, temperature=0, max_tokens=24
        )
        return "".join(event.choices[0].text for event in events)

    words = ["Tell", "What", "How", "Please"]
    alone = [read(word) for word in words]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(read, words)) == alone


def test_no_words_are_logged_and_new_routes_are_counted(fake: Running) -> None:
    client(fake).completions.create(model="fake", prompt="a b")
    assert fake.metric("kaito_requests_total", route="/v1/completions", code="200") == 1
    assert fake.metric("kaito_generation_tokens_total") == 2
