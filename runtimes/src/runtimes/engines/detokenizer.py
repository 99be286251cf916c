"""Turn tokens into text while they are made.

The pieces joined are the text of the whole: a token that is only part of a character, or whose spacing
depends on its neighbours, is held back until it can be told apart.
"""

from collections.abc import Sequence
from typing import Protocol

# Enough of the prompt for the tokenizer to space the first new word as if it had seen all of it.
CONTEXT_TOKENS = 6
INCOMPLETE = "\ufffd"


class Decoder(Protocol):
    """The part of a tokenizer that is used here."""

    def decode(
        self,
        token_ids: list[int],
        *,
        skip_special_tokens: bool,
        clean_up_tokenization_spaces: bool,
    ) -> str:
        """The text of the tokens."""


class Detokenizer:
    """The text of one growing answer."""

    def __init__(self, decoder: Decoder, prompt: Sequence[int]) -> None:
        self._decoder = decoder
        self._tokens = list(prompt[-CONTEXT_TOKENS:])
        self._prompt_tokens = len(self._tokens)
        self._shown_from = 0
        self._shown_to = self._prompt_tokens

    def push(self, token: int) -> str:
        """The text that this token completes; empty while it completes none."""
        self._tokens.append(token)
        before = self._text(self._shown_from, self._shown_to)
        now = self._text(self._shown_from, len(self._tokens))
        if len(now) <= len(before) or now.endswith(INCOMPLETE):
            return ""
        self._shown_from, self._shown_to = self._shown_to, len(self._tokens)
        return now[len(before) :]

    def whole(self, *, clean_up_spaces: bool = False) -> str:
        """The text of all pushed tokens, also of what is still held back."""
        prompt = self._text(0, self._prompt_tokens, clean_up_spaces)
        return self._text(0, len(self._tokens), clean_up_spaces)[len(prompt) :]

    def _text(self, start: int, end: int, clean_up_spaces: bool = False) -> str:
        return self._decoder.decode(
            self._tokens[start:end],
            skip_special_tokens=True,
            clean_up_tokenization_spaces=clean_up_spaces,
        )
