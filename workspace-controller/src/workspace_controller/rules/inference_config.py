"""The model server's settings, key `inference_config.yaml` of the ConfigMap in `inference.config`.

Invariant: what the server would refuse for its shape is refused here, before a node is paid for.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from workspace_controller.reading import shown
from workspace_controller.rules.finding import Rule
from workspace_controller.rules.yaml_text import yaml_map

CONTENT = Rule(
    "inference-config",
    "inference_config.yaml holds a map; vllm is a map; vllm.max-model-len is at most what the model "
    "can attend to.",
)

KEY: Final = "inference_config.yaml"
LENGTH: Final = "max-model-len"


def problems(data: Mapping[str, str], context: int | None) -> Iterator[str]:
    """What is wrong with a model server's settings, a sentence each.

    Args:
        data: the content of the ConfigMap.
        context: tokens that the model can attend to; None where that is not known.
    """
    content = yield from yaml_map(data, KEY)
    if content is None:
        return
    vllm = content.get("vllm")
    if vllm is None:
        return
    if not isinstance(vllm, dict):
        yield f"vllm is {shown(vllm)}; it must be a map of the engine's settings"
        return
    length = vllm.get(LENGTH, vllm.get(LENGTH.replace("-", "_")))
    if length is None:
        return
    if isinstance(length, bool) or not isinstance(length, int) or length < 1:
        yield f"vllm.{LENGTH} is {shown(length)}; it must be a whole number of tokens, at least 1"
    elif context is not None and length > context:
        yield f"vllm.{LENGTH} is {length}, and the model can attend to {context} tokens"
