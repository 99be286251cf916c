"""Translate a request's sampling into the generation config of transformers.

What a request leaves open stays unset, so that the model's own generation config fills it.
"""

from typing import Any

from transformers import GenerationConfig

from runtimes.engines.contract import Sampling

# A model's file may fix lengths and stops; those are each request's own, so they are forgotten at load.
PER_REQUEST = (
    "max_length",
    "max_new_tokens",
    "min_length",
    "min_new_tokens",
    "max_time",
    "stop_strings",
)


def forget_lengths(config: GenerationConfig) -> None:
    """Drop from a model's defaults what every request decides."""
    for name in PER_REQUEST:
        setattr(config, name, None)


def generation_config(
    sampling: Sampling,
    *,
    new_tokens: int,
    min_new_tokens: int,
    pad_token_id: int,
    eos_token_ids: tuple[int, ...],
) -> GenerationConfig:
    """The config for one call of `generate`."""
    settings: dict[str, Any] = {
        "do_sample": sampling.do_sample,
        "eos_token_id": list(eos_token_ids) or None,
        "max_new_tokens": new_tokens,
        "num_beams": sampling.num_beams,
        "num_return_sequences": sampling.num_return_sequences,
        "pad_token_id": pad_token_id,
        "repetition_penalty": sampling.repetition_penalty,
    }
    if min_new_tokens:
        settings["min_new_tokens"] = min_new_tokens
    if sampling.do_sample:
        for name in ("temperature", "top_k", "top_p", "typical_p"):
            settings[name] = getattr(sampling, name)
    if sampling.num_beams > 1:
        settings["early_stopping"] = sampling.early_stopping
        settings["length_penalty"] = sampling.length_penalty
    for name in (
        "encoder_no_repeat_ngram_size",
        "forced_bos_token_id",
        "forced_eos_token_id",
        "no_repeat_ngram_size",
        "remove_invalid_values",
    ):
        settings[name] = getattr(sampling, name)
    if sampling.bad_words_ids:
        settings["bad_words_ids"] = [list(word) for word in sampling.bad_words_ids]
    return GenerationConfig(
        **{name: value for name, value in settings.items() if value is not None}
    )
