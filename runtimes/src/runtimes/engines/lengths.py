"""How many tokens a request may make, decided before it is queued.

Pure: what fits is decided from counts alone, and what does not fit is refused by name, never cut in silence.
"""

from dataclasses import dataclass

from runtimes.engines.contract import Refused, Sampling

DEFAULT_MAX_LENGTH = 200


@dataclass(frozen=True)
class Limits:
    """What the server allows; both in tokens, `max_model_len` for prompt and answer together."""

    max_model_len: int
    max_new_tokens: int


@dataclass(frozen=True)
class Budget:
    """What one request gets; `prompt_tokens` are kept from the right end of the prompt."""

    prompt_tokens: int
    new_tokens: int
    min_new_tokens: int


def budget(
    sampling: Sampling,
    limits: Limits,
    *,
    prompt_tokens: int,
    prefix_tokens: int = 0,
    trim_prompt: bool = False,
) -> Budget:
    """Share the context between prompt and answer.

    `prefix_tokens` is the part of the prompt that `max_length` and `min_length` do not count.
    Raises `Refused` with status 400.
    """
    if sampling.all_room:
        new_tokens = max(1, min(limits.max_new_tokens, limits.max_model_len - prompt_tokens))
    else:
        new_tokens = _wanted(sampling, limits, prompt_tokens - prefix_tokens)
    if new_tokens > limits.max_new_tokens:
        raise Refused(
            400,
            f"{new_tokens} new tokens are above the limit of {limits.max_new_tokens}",
            hint="Ask for fewer new tokens, or raise the server's --max_new_tokens_limit",
            code="too_many_tokens",
        )
    kept = prompt_tokens
    if prompt_tokens + new_tokens > limits.max_model_len:
        kept = limits.max_model_len - new_tokens
        if not trim_prompt or kept < 1:
            raise Refused(
                400,
                f"{prompt_tokens} prompt tokens and {new_tokens} new tokens are above "
                f"the model's context of {limits.max_model_len}",
                hint="Shorten the prompt, ask for fewer new tokens, or send "
                'handle_long_generation "hole" with max_new_tokens to drop the prompt\'s left',
                code="context_length_exceeded",
            )
    min_new_tokens = max(0, sampling.min_length + prefix_tokens - kept)
    if min_new_tokens > new_tokens:
        raise Refused(
            400,
            f"min_length {sampling.min_length} asks for {min_new_tokens} new tokens, "
            f"but at most {new_tokens} may be made",
            hint="Lower min_length, or raise max_length or max_new_tokens",
        )
    return Budget(kept, new_tokens, min_new_tokens)


def _wanted(sampling: Sampling, limits: Limits, counted_tokens: int) -> int:
    if sampling.max_new_tokens is not None:
        return sampling.max_new_tokens
    if sampling.max_length is None:
        max_length = min(DEFAULT_MAX_LENGTH, limits.max_model_len)
        wanted = min(max_length - counted_tokens, limits.max_new_tokens)
    else:
        max_length = sampling.max_length
        wanted = max_length - counted_tokens
    if wanted < 1:
        raise Refused(
            400,
            f"the prompt's {counted_tokens} tokens leave no room in max_length {max_length}",
            hint="max_length counts prompt and new tokens together: raise it, "
            "or send max_new_tokens",
        )
    return wanted
