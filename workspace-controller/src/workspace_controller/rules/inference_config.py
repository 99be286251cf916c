"""The model server's settings, key `inference_config.yaml` of the ConfigMap in `inference.config`.

Invariant: a length that the model cannot have is refused before a node is paid for. Which settings
there are is for the server to say, whose version a Workspace chooses.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from workspace_controller.reading import shown
from workspace_controller.rules.finding import Rule
from workspace_controller.rules.yaml_text import yaml_map

CONTENT = Rule(
    "inference-config",
    "inference_config.yaml holds a map; vllm is a map; max_model_len and vllm.max-model-len are at "
    "most what the model can attend to.",
)

KEY: Final = "inference_config.yaml"
OWN_LENGTH: Final = "max_model_len"
"""The server's own setting, whatever its engine."""
LENGTH: Final = "max-model-len"
"""vLLM's, which wins over it."""
LONGEST: Final = "auto"
"""vLLM then takes the longest for which the GPUs have room."""


def problems(data: Mapping[str, str], context: int | None) -> Iterator[str]:
    """What is wrong with a model server's settings, a sentence each.

    Args:
        data: the content of the ConfigMap.
        context: tokens that the model can attend to; None where that is not known.
    """
    content = yield from yaml_map(data, KEY)
    if content is None:
        return
    yield from _length_problems(OWN_LENGTH, content.get(OWN_LENGTH), context)
    vllm = content.get("vllm")
    if vllm is None:
        return
    if not isinstance(vllm, dict):
        yield f"vllm is {shown(vllm)}; it must be a map of the engine's settings"
        return
    length = vllm.get(LENGTH, vllm.get(LENGTH.replace("-", "_")))
    if length != LONGEST:
        yield from _length_problems(f"vllm.{LENGTH}", length, context)


def _length_problems(name: str, length: object, context: int | None) -> Iterator[str]:
    if length is None:
        return
    if isinstance(length, bool) or not isinstance(length, int) or length < 1:
        yield f"{name} is {shown(length)}; it must be a whole number of tokens, at least 1"
    elif context is not None and length > context:
        yield f"{name} is {length}, and the model can attend to {context} tokens"
