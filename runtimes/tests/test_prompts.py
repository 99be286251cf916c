from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from runtimes.engines.contract import Generation, Message, Refused, Sampling
from runtimes.engines.lengths import Limits
from runtimes.engines.prompts import PromptReader


@pytest.fixture
def tokenizer(tiny_model: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_model)


@pytest.fixture
def reader(tokenizer: Any) -> PromptReader:
    return PromptReader(tokenizer, 386, Limits(512, 256))


def generation(**request: Any) -> Generation:
    return Generation(id="test", sampling=request.pop("sampling", Sampling()), **request)


def refused(reader: PromptReader, **request: Any) -> Refused:
    with pytest.raises(Refused) as raised:
        reader.read(generation(**request))
    assert raised.value.status == 400
    return raised.value


def test_prompt_and_prefix_are_read_as_one(reader: PromptReader, tokenizer: Any) -> None:
    tokens, share = reader.read(generation(prompt="joke", prefix="Tell me a "))
    assert tokens == tokenizer("Tell me a joke")["input_ids"]
    assert share.new_tokens == 200 - len(tokens) + len(tokenizer("Tell me a ")["input_ids"])


def test_messages_go_through_the_chat_template(reader: PromptReader, tokenizer: Any) -> None:
    tokens, _ = reader.read(generation(messages=(Message("user", "Hi"),)))
    assert tokenizer.decode(tokens) == "<|user|>\nHi<|end|>\n<|assistant|>\n"


def test_a_last_message_of_the_assistant_is_continued(reader: PromptReader, tokenizer: Any) -> None:
    messages = (Message("user", "Hi"), Message("assistant", "Hello, I"))
    tokens, _ = reader.read(generation(messages=messages))
    assert tokenizer.decode(tokens).endswith("<|assistant|>\nHello, I")


def test_a_model_without_a_template_takes_no_messages(tokenizer: Any) -> None:
    tokenizer.chat_template = None
    reader = PromptReader(tokenizer, 386, Limits(512, 256))
    refusal = refused(reader, messages=(Message("user", "Hi"),))
    assert refusal.detail == "Text generation parameter prompt required"
    assert "no chat template" in refusal.hint


def test_what_the_template_refuses_is_told(tokenizer: Any) -> None:
    tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    reader = PromptReader(tokenizer, 386, Limits(512, 256))
    assert "roles must alternate" in refused(reader, messages=(Message("user", "Hi"),)).detail


def test_a_trimmed_prompt_keeps_its_right_end(reader: PromptReader, tokenizer: Any) -> None:
    prompt = "first " + "word " * 600 + "last"
    tokens, share = reader.read(
        generation(prompt=prompt, trim_prompt=True, sampling=Sampling(max_new_tokens=112))
    )
    assert len(tokens) == share.prompt_tokens == 400
    assert tokens == tokenizer(prompt)["input_ids"][-400:]


@pytest.mark.parametrize(
    ("sampling", "text"),
    [
        (Sampling(pad_token_id=386), "pad_token_id: 386"),
        (Sampling(eos_token_ids=(2, 999)), "eos_token_id: 999"),
        (Sampling(forced_bos_token_id=-1), "forced_bos_token_id: -1"),
        (Sampling(forced_eos_token_id=10**9), "forced_eos_token_id: 1000000000"),
        (Sampling(bad_words_ids=((1,), (2, 386))), "bad_words_ids: 386"),
    ],
)
def test_tokens_outside_the_vocabulary_are_named(
    reader: PromptReader, sampling: Sampling, text: str
) -> None:
    refusal = refused(reader, prompt="Hi", sampling=sampling)
    assert f"generate_kwargs.{text} is no token of this model" in refusal.detail
    assert refusal.hint == "Its tokens are 0 to 385"
