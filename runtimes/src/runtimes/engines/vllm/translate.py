"""Between our requests and vLLM's: one `Generation` becomes one body, and its events become ours.

What vLLM cannot do is refused by the name that the client used, never dropped in silence.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from runtimes.engines.contract import Delta, Finished, FinishReason, Generation, Refused, Sampling
from runtimes.engines.lengths import Budget

# Settings of /chat that vLLM has nothing for, and the values that ask for nothing.
UNKNOWN: dict[str, tuple[Any, ...]] = {
    "num_beams": (1,),
    "typical_p": (1.0,),
    "no_repeat_ngram_size": (None, 0),
    "encoder_no_repeat_ngram_size": (None, 0),
    "bad_words_ids": (None, ()),
    "forced_bos_token_id": (None,),
    "forced_eos_token_id": (None,),
}


def check(sampling: Sampling) -> None:
    """Raise `Refused` with status 400 for what vLLM cannot be asked for."""
    for name, nothing in UNKNOWN.items():
        if getattr(sampling, name) not in nothing:
            raise Refused(
                400,
                f"generate_kwargs.{name} is not available on the vLLM engine",
                hint="Leave it out, or serve the model with --engine=transformers",
            )


def tokenize(generation: Generation, model: str) -> dict[str, Any]:
    """The body that asks for a prompt's tokens."""
    if not generation.messages:
        return {"model": model, "prompt": generation.prefix + (generation.prompt or "")}
    goes_on = generation.messages[-1].role == "assistant"
    return {
        "model": model,
        "messages": [{"role": item.role, "content": item.content} for item in generation.messages],
        "add_generation_prompt": not goes_on,
        "continue_final_message": goes_on,
    }


def complete(
    sampling: Sampling, share: Budget, prompt: Sequence[int], model: str
) -> dict[str, Any]:
    """The body that asks for an answer, as tokens in and events out."""
    body: dict[str, Any] = {
        "model": model,
        "prompt": list(prompt),
        "max_tokens": share.new_tokens,
        "min_tokens": share.min_new_tokens,
        "n": sampling.num_return_sequences,
        "temperature": sampling.temperature if sampling.do_sample else 0.0,
        "top_p": sampling.top_p if sampling.do_sample else 1.0,
        "top_k": sampling.top_k or -1,
        "repetition_penalty": sampling.repetition_penalty,
        "stop": list(sampling.stop_strings),
        "include_stop_str_in_output": True,  # as the other engine has it; routes cut it off
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if sampling.eos_token_ids:
        body |= {"ignore_eos": True, "stop_token_ids": list(sampling.eos_token_ids)}
    return body


class Answer:
    """A growing answer: takes vLLM's events one by one."""

    def __init__(self, sequences: int) -> None:
        self._texts = [""] * sequences
        self._new_tokens = 0
        self._reasons: set[str] = set()

    def take(self, event: Mapping[str, Any]) -> Delta | None:
        """The step that an event is; None if it has no text of a single answer."""
        if "error" in event:
            raise refused(500, event)
        if usage := event.get("usage"):
            self._new_tokens = int(usage["completion_tokens"])
        text = ""
        for choice in event.get("choices", ()):
            text = choice["text"]
            self._texts[choice["index"]] += text
            if reason := choice.get("finish_reason"):
                self._reasons.add(reason)
        return Delta(text, 1) if text and len(self._texts) == 1 else None

    def finish(self) -> Finished:
        """The whole answer; raises `Refused` if vLLM gave it up."""
        if not self._reasons <= {"stop", "length"} or not self._reasons:
            raise Refused(500, "vLLM ended without an answer")
        reason: FinishReason = "length" if "length" in self._reasons else "stop"
        return Finished(tuple(self._texts), self._new_tokens, reason)


def failed() -> Refused:
    """What is said when vLLM does not answer."""
    return Refused(503, "The model's engine failed", retry_after=5)


def refused(status: int, content: Mapping[str, Any] | bytes) -> Refused:
    """What vLLM refuses, in our words where we have them."""
    if isinstance(content, bytes):
        try:
            content = json.loads(content)
        except ValueError:
            content = {}
    error = content.get("error") if isinstance(content, Mapping) else None
    message = error.get("message") if isinstance(error, Mapping) else None
    if status >= 500 or not message:
        return failed()
    return Refused(status, str(message)[:1000])
