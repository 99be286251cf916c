"""Turn a request into the tokens of its prompt, or refuse it before it takes a place in the queue.

Every token id that a client sends is checked here: one outside the vocabulary would end a GPU's process.
"""

from collections.abc import Iterator
from typing import Any

from jinja2 import TemplateError

from runtimes.engines.contract import Generation, Refused, Sampling
from runtimes.engines.lengths import Budget, Limits, budget


class PromptReader:
    """Reads prompts for one model; not for use from two threads at once."""

    def __init__(self, tokenizer: Any, vocabulary: int, limits: Limits) -> None:
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._limits = limits

    def read(self, request: Generation) -> tuple[list[int], Budget]:
        """The prompt's tokens, cut to its budget; raises `Refused` with status 400."""
        self._check_ids(request.sampling)
        prefix_tokens = 0
        if request.messages:
            text = self._chat(request)
            tokens = self._tokens(text, special=False)
        else:
            tokens = self._tokens(request.prefix + (request.prompt or ""))
            if request.prefix:
                prefix_tokens = len(self._tokens(request.prefix))
        if not tokens:
            raise Refused(400, "the prompt holds no token", hint="Send some text")
        share = budget(
            request.sampling,
            self._limits,
            prompt_tokens=len(tokens),
            prefix_tokens=min(prefix_tokens, len(tokens)),
            trim_prompt=request.trim_prompt,
        )
        return tokens[len(tokens) - share.prompt_tokens :], share

    def _tokens(self, text: str, *, special: bool = True) -> list[int]:
        tokens: list[int] = self._tokenizer(text, add_special_tokens=special)["input_ids"]
        return tokens

    def _chat(self, request: Generation) -> str:
        if not self._tokenizer.chat_template:
            raise Refused(
                400,
                "Text generation parameter prompt required",
                hint="This model has no chat template, so it takes no messages: send prompt",
            )
        messages = [{"role": item.role, "content": item.content} for item in request.messages]
        goes_on = messages[-1]["role"] == "assistant"
        try:
            text: str = self._tokenizer.apply_chat_template(
                messages,
                tokenize=False,
                add_generation_prompt=not goes_on,
                continue_final_message=goes_on,
            )
        except (TemplateError, ValueError) as error:
            raise Refused(
                400, f"the model's chat template refuses these messages: {error}"
            ) from error
        return text

    def _check_ids(self, sampling: Sampling) -> None:
        for name, token in _named_ids(sampling):
            if not 0 <= token < self._vocabulary:
                raise Refused(
                    400,
                    f"generate_kwargs.{name}: {token} is no token of this model",
                    hint=f"Its tokens are 0 to {self._vocabulary - 1}",
                )


def _named_ids(sampling: Sampling) -> Iterator[tuple[str, int]]:
    for name in ("pad_token_id", "forced_bos_token_id", "forced_eos_token_id"):
        token = getattr(sampling, name)
        if token is not None:
            yield name, token
    for token in sampling.eos_token_ids or ():
        yield "eos_token_id", token
    for word in sampling.bad_words_ids or ():
        for token in word:
            yield "bad_words_ids", token
