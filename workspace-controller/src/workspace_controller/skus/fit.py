"""How much GPU memory a model needs, on how many GPUs and nodes it fits, and what room that leaves.

Invariant: the only place that computes any of this, in whole bytes; admission, the controller, the
server's launch flags and the documentation take it from here. More memory per GPU never makes a
model need more GPUs or nodes.

Per GPU of memory M an engine may use a share f of it (vLLM pins that share down when it starts). Of it
a fixed part goes to CUDA and the activations, and the KV cache of one context of L tokens is divided
over the GPUs of a node; the weights, with the buffers that grow with them, go into the rest:

    room for weights on g GPUs  U = g x (f M - reserve - L x kv / g) / growth
    it fits                     1.02 x weights < U
    over several nodes          the least n with 1.02 x weights < n x U(all GPUs of a node)
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from workspace_controller.presets.catalog import RUNTIME_CAPABILITY, Engine, Preset
from workspace_controller.quantities import GIB, in_gib
from workspace_controller.skus.table import Sku

CONTEXT_TOKENS: Final = 2048
"""The context that has to fit at the least; what memory is left makes it longer."""
WEIGHTS_PERCENT: Final = 102
"""Weights in memory, in percent of their files."""
MOST_NODES: Final = 16
"""Beyond this many nodes for one copy, a machine is called too small."""


@dataclass(frozen=True)
class Share:
    """What an engine makes of a GPU's memory."""

    percent: int
    """How much of the GPU's nominal memory the engine may use."""
    reserve: int
    """Bytes on each GPU for CUDA, communication and activations."""
    growth: int
    """Percent of the weights' size that weights and the buffers beside them take."""


SHARES: Final[dict[Engine, Share]] = {
    # 0.6 GiB for CUDA and NCCL and 1.7 GiB for activations; 5 percent for graphs.
    "vllm": Share(percent=84, reserve=23 * GIB // 10, growth=105),
    # A card has up to 7 percent less than its name says; nothing is set aside for other requests.
    "transformers": Share(percent=93, reserve=6 * GIB // 10, growth=100),
}
VLLM_PERCENT_BY_GPU: Final = {"A10": 82}
"""Cards on which vLLM is given less, for more of their memory is taken by the driver."""


def utilisation_percent(engine: Engine, gpu: str) -> int:
    """The share of a GPU's memory that the engine may use; also what the server is started with."""
    if engine == "vllm":
        return VLLM_PERCENT_BY_GPU.get(gpu, SHARES[engine].percent)
    return SHARES[engine].percent


@dataclass(frozen=True)
class Fit:
    """How a model runs on machines of one size."""

    engine: Engine
    nodes: int
    """Nodes that one copy of the model is spread over."""
    gpus: int
    """GPUs that it uses on each of them."""
    kv_room: int
    """Bytes that are left for the KV cache of one copy, over all its GPUs."""
    tokens: int
    """Tokens that this holds, of one request or of many."""


@dataclass(frozen=True)
class Misfit:
    """Why a model does not run on machines of one size."""

    reasons: tuple[str, ...]
    """A sentence each, without a full stop."""
    need: int = 0
    """Bytes that the weights take; 0 where memory is not the reason."""
    has: int = 0
    """Bytes that one machine, with all its GPUs, leaves for weights."""
    nodes: int | None = None
    """Nodes over which it would fit, if the model may be spread."""
    with_transformers: bool = False
    """Whether the other engine would do, when vLLM was asked for."""


def fit(
    preset: Preset,
    sku: Sku,
    *,
    nodes: int = 1,
    engine: Engine | None = None,
    context_tokens: int = CONTEXT_TOKENS,
) -> Fit | Misfit:
    """How the preset runs on up to `nodes` machines of that size, or why it does not.

    One machine for a whole copy comes before a copy that is spread; vLLM before transformers,
    unless an engine is asked for.
    """
    unsuitable = tuple(_unsuitable(preset, sku, engine))
    if unsuitable:
        return Misfit(unsuitable)
    tokens = min(context_tokens, preset.context_tokens)
    engines = [each for each in SHARES if each in preset.engines and engine in (None, each)]
    whole = (_on_one_node(preset, sku, each, tokens) for each in engines)
    found = next((each for each in whole if each is not None), None)
    if found is not None:
        return found
    needed = _nodes(preset, sku, tokens) if "vllm" in engines and preset.distributed else None
    if needed is not None and 1 < needed <= nodes:
        return _placed(preset, sku, "vllm", nodes, sku.gpus)
    other = engine == "vllm" and isinstance(fit(preset, sku, engine="transformers"), Fit)
    roomiest = max(engines, key=lambda each: _room(preset, sku, each, sku.gpus, tokens))
    return _misfit(preset, sku, roomiest, tokens, needed, with_transformers=other)


def _unsuitable(preset: Preset, sku: Sku, engine: Engine | None) -> Iterable[str]:
    """What no amount of memory would mend."""
    if not sku.nvidia:
        yield f"{sku.name} has {sku.vendor} GPUs, and {preset.name} needs NVIDIA"
    elif engine is not None and engine not in preset.engines:
        yield f"{preset.name} is not served by {engine}, only by {', '.join(preset.engines)}"
    elif preset.capability > RUNTIME_CAPABILITY and (sku.capability or 0) < preset.capability:
        yield (
            f"{preset.name} needs GPUs of compute capability {preset.capability:g}, "
            f"the {sku.gpu} of {sku.name} has {sku.capability or 'an unknown one'}"
        )
    if sku.gpus < preset.gpus:
        yield f"{preset.name} needs {preset.gpus} GPUs, {sku.name} has {sku.gpus}"


def _room(preset: Preset, sku: Sku, engine: Engine, gpus: int, tokens: int) -> int:
    """Bytes that so many GPUs of one node have for weights; not positive when they have none."""
    share = SHARES[engine]
    usable = sku.gpu_memory * utilisation_percent(engine, sku.gpu) // 100
    left = gpus * (usable - share.reserve) - tokens * preset.kv_per_token
    return left * 100 // share.growth


def _weights(preset: Preset) -> int:
    return preset.weights * WEIGHTS_PERCENT // 100


def _splits(preset: Preset, engine: Engine, gpus: int) -> bool:
    """Whether so many GPUs can share the model: vLLM divides the attention heads evenly."""
    if engine == "transformers":
        return True  # whole layers go to one GPU or another
    if preset.heads is None:
        return gpus & (gpus - 1) == 0
    return preset.heads % gpus == 0


def _computes(preset: Preset, sku: Sku, engine: Engine) -> bool:
    """Whether the engine loads the format on that GPU: vLLM refuses to emulate bfloat16."""
    return engine == "transformers" or preset.dtype != "bfloat16" or sku.bfloat16


def _on_one_node(preset: Preset, sku: Sku, engine: Engine, tokens: int) -> Fit | None:
    if not _computes(preset, sku, engine):
        return None
    for gpus in range(preset.gpus, sku.gpus + 1):
        enough = _weights(preset) < _room(preset, sku, engine, gpus, tokens)
        if enough and _splits(preset, engine, gpus):
            return _placed(preset, sku, engine, 1, gpus)
    return None


def _nodes(preset: Preset, sku: Sku, tokens: int) -> int | None:
    """The least number of machines over which vLLM can spread one copy; None when none will do."""
    room = _room(preset, sku, "vllm", sku.gpus, tokens)
    if room <= 0 or not _computes(preset, sku, "vllm") or not _splits(preset, "vllm", sku.gpus):
        return None
    needed = _weights(preset) // room + 1
    return needed if needed <= MOST_NODES else None


def _placed(preset: Preset, sku: Sku, engine: Engine, nodes: int, gpus: int) -> Fit:
    share = SHARES[engine]
    usable = sku.gpu_memory * utilisation_percent(engine, sku.gpu) // 100
    taken = _weights(preset) * share.growth // 100
    left = max(0, nodes * gpus * (usable - share.reserve) - taken)
    return Fit(engine, nodes, gpus, left, left // preset.kv_per_token)


def _misfit(
    preset: Preset,
    sku: Sku,
    engine: Engine,
    tokens: int,
    nodes: int | None,
    *,
    with_transformers: bool,
) -> Misfit:
    need, has = _weights(preset), max(0, _room(preset, sku, engine, sku.gpus, tokens))
    if need < has:
        what = (
            f"{preset.name} is in bfloat16, which the {sku.gpu} of {sku.name} does not compute"
            if not _computes(preset, sku, engine)
            else f"the {preset.heads} attention heads of {preset.name} cannot be divided evenly "
            f"over as many GPUs of {sku.name} as its weights need"
        )
    else:
        what = (
            f"the weights of {preset.name} take {in_gib(need)} of GPU memory, and {sku} has room "
            f"for {in_gib(has)} beside the engine and a context of {tokens} tokens"
        )
    return Misfit((what,), need, has, nodes, with_transformers)
