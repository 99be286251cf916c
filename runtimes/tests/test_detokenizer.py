import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from runtimes.engines.detokenizer import Detokenizer


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_model)


@pytest.fixture(scope="module")
def spaced() -> Any:
    """Words carry their space in front, and the first of a text loses it, as in llama and phi-3."""
    words = {"<unk>": 0, "▁Hello": 1, "▁world": 2, "!": 3, "<0xC3>": 4, "<0xA9>": 5}
    backend = Tokenizer(models.BPE(vocab=words, merges=[], unk_token="<unk>", byte_fallback=True))
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend)


@pytest.mark.parametrize(
    "text",
    [
        "plain words, and more",
        "é",
        "naïve façade",
        "日本語のテキスト",
        "👩‍👩‍👧 family",
        "a\n\n  b\t",
    ],
)
def test_pieces_joined_are_the_text(tokenizer: Any, text: str) -> None:
    prompt, tokens = tokenizer("Say: ")["input_ids"], tokenizer(text)["input_ids"]
    detokenizer = Detokenizer(tokenizer, prompt)
    assert "".join(map(detokenizer.push, tokens)) == text
    assert detokenizer.whole() == text


def test_random_tokens_never_show_half_a_character_before_the_end(tokenizer: Any) -> None:
    draw = random.Random(7)
    for _ in range(50):
        tokens = [draw.randrange(7, 386) for _ in range(40)]
        detokenizer = Detokenizer(tokenizer, tokens[:3])
        pieces = [detokenizer.push(token) for token in tokens[3:]]
        assert detokenizer.whole().startswith("".join(pieces))
        assert not any(piece.endswith("\ufffd") for piece in pieces)


def test_the_first_new_word_keeps_its_space(spaced: Any) -> None:
    detokenizer = Detokenizer(spaced, [1])
    assert detokenizer.push(2) == " world"
    assert detokenizer.push(3) == "!"
    assert detokenizer.whole() == " world!"


def test_a_character_of_several_tokens_comes_in_one_piece(spaced: Any) -> None:
    detokenizer = Detokenizer(spaced, [1])
    assert [detokenizer.push(token) for token in (4, 5, 3)] == ["", "é", "!"]


def test_special_tokens_are_no_text(tokenizer: Any) -> None:
    detokenizer = Detokenizer(tokenizer, tokenizer("Hi")["input_ids"])
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    push: Callable[[int], str] = detokenizer.push
    assert [push(token) for token in (*tokenizer("a")["input_ids"], end)] == ["a", ""]
