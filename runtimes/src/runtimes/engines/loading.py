"""Load a model and its tokenizer from a folder, without the network and without the folder's code.

Everything that can be wrong with a folder of weights ends as one `StartupFailure` that names it.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
)
from transformers import __version__ as transformers_version
from transformers.utils import logging as transformers_logging

from runtimes.engines.options import LoadOptions
from runtimes.engines.sampling import forget_lengths
from runtimes.failure import Exit, StartupFailure

CONTEXT_NAMES = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")
# Names that phi-3 models with a long context gave to "longrope" before mid-2024.
OLD_LONGROPE = ("su", "yarn")
UNBOUNDED = 10**9  # tokenizers without a limit of their own say 1e30


@dataclass(frozen=True)
class Loaded:
    """A model that is ready to generate."""

    model: Any
    tokenizer: Any
    context: int

    @property
    def dtype(self) -> str:
        """The type of the weights, as in `bfloat16`."""
        return str(self.model.dtype).removeprefix("torch.")


def load(folder: Path, options: LoadOptions) -> Loaded:
    """Read tokenizer and weights; raises `StartupFailure`."""
    transformers_logging.disable_progress_bar()
    content = read_config(folder)
    try:
        config = CONFIG_MAPPING[content["model_type"]].from_dict(content)
        tokenizer = AutoTokenizer.from_pretrained(
            folder, config=config, local_files_only=True, trust_remote_code=False
        )
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=serving_dtype(options.torch_dtype, config),
            device_map=_device_map(options.device_map),
            quantization_config=_quantization(options),
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
        )
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _no_memory(folder, error) from error
    except SafetensorError as error:
        raise StartupFailure(
            Exit.WEIGHTS,
            f"the weights in {folder} are damaged ({error}); delete the folder and start again",
        ) from error
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise StartupFailure(
            Exit.WEIGHTS, f"the model in {folder} cannot be loaded: {_first_line(error)}"
        ) from error
    except RuntimeError as error:
        raise _unfit(folder, error) from error
    _refuse_offloading(model, options)
    if options.chat_template:
        tokenizer.chat_template = options.chat_template
    forget_lengths(model.generation_config)
    return Loaded(model.eval(), tokenizer, context_length(config, tokenizer))


def choose_dtype(name: str, config: Any) -> torch.dtype:
    """The type to load weights in.

    `auto` is the type they are stored in, with one exception: a CPU without AVX-512 reads a prompt
    3.5 times slower in 16 bits than in 32 (measured), so there `auto` is float32.
    """
    if name != "auto":
        return getattr(torch, name)  # type: ignore[no-any-return]
    stored = config.dtype if isinstance(config.dtype, torch.dtype) else torch.float32
    if torch.cuda.is_available() or stored == torch.float32:
        return stored
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return torch.bfloat16 if wide and stored == torch.bfloat16 else torch.float32


def serving_dtype(name: str, config: Any) -> torch.dtype:
    """The type to serve in: as `choose_dtype`, but `auto` is never one that the GPU has to emulate.

    A GPU older than Ampere computes bfloat16 many times slower than float16; vLLM chooses the same.
    """
    chosen = choose_dtype(name, config)
    if name != "auto" or chosen != torch.bfloat16 or not torch.cuda.is_available():
        return chosen
    native = torch.cuda.is_bf16_supported(including_emulation=False)
    return chosen if native else torch.float16


def context_length(config: Any, tokenizer: Any) -> int:
    """The longest sequence in tokens that both model and tokenizer were made for."""
    text = config.get_text_config()
    known = [getattr(text, name, None) for name in CONTEXT_NAMES]
    lengths: list[int] = [length for length in known if length]
    if tokenizer.model_max_length < UNBOUNDED:
        lengths.append(int(tokenizer.model_max_length))
    if not lengths:
        raise StartupFailure(
            Exit.SETTINGS, "the model does not say how long its context is: set --max_model_len"
        )
    return min(lengths)


def read_config(folder: Path) -> dict[str, Any]:
    """The model's config, once it is known that the folder can be loaded without running its code."""
    try:
        content: dict[str, Any] = json.loads((folder / "config.json").read_bytes())
        model_type = content.get("model_type", "")
    except FileNotFoundError as error:
        raise StartupFailure(
            Exit.WEIGHTS, f"{folder} holds no model: config.json is missing"
        ) from error
    except (OSError, ValueError, AttributeError) as error:
        raise StartupFailure(
            Exit.WEIGHTS, f"{folder}/config.json is not a model's config: {error}"
        ) from error
    if not any(folder.glob("*.safetensors")):
        raise StartupFailure(
            Exit.WEIGHTS,
            f"{folder} holds no *.safetensors weights; other formats can run code "
            "and are not loaded",
        )
    if model_type not in CONFIG_MAPPING:
        needs_code = (
            ", and this server never runs a repository's code" if "auto_map" in content else ""
        )
        raise StartupFailure(
            Exit.WEIGHTS,
            f"transformers {transformers_version} does not know model type {model_type!r} "
            f"of {folder}{needs_code}",
        )
    scaling = content.get("rope_scaling") or {}
    if model_type == "phi3" and scaling.get("type") in OLD_LONGROPE:
        # transformers 5.19 renames these itself, but only after it has checked them by the new name.
        content["rope_scaling"] = {**scaling, "type": "longrope"}
    return content


def _device_map(name: str) -> str | None:
    if name == "auto" and not torch.cuda.is_available():
        return None  # one CPU: nothing to spread, and no hooks to slow each step down
    return name


def _quantization(options: LoadOptions) -> BitsAndBytesConfig | None:
    if options.load_in_4bit:
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
    return BitsAndBytesConfig(load_in_8bit=True) if options.load_in_8bit else None


def _refuse_offloading(model: Any, options: LoadOptions) -> None:
    """A layer left on the CPU makes every token wait for the bus: that is no way to serve."""
    placed = getattr(model, "hf_device_map", {})
    outside = [layer for layer, device in placed.items() if device in {"cpu", "disk"}]
    if outside and options.device_map != "cpu":
        raise StartupFailure(
            Exit.MEMORY,
            f"{len(outside)} of {len(placed)} layers do not fit into GPU memory: "
            "take a larger GPU, more GPUs, or --load_in_8bit or --load_in_4bit",
        )


def _no_memory(folder: Path, error: BaseException) -> StartupFailure:
    return StartupFailure(
        Exit.MEMORY,
        f"the model in {folder} does not fit into memory ({_first_line(error)}): take a larger "
        "GPU or node, or --load_in_8bit or --load_in_4bit",
    )


def _unfit(folder: Path, error: RuntimeError) -> StartupFailure:
    """Weights of other sizes than the config's: transformers names a flag that nobody here can set."""
    cause = _first_line(error)
    if "ignore_mismatched_sizes" in cause:
        cause = (
            "its weights do not fit its config.json; both must come from one model and revision: "
            "delete the folder and start again"
        )
    return StartupFailure(Exit.WEIGHTS, f"the model in {folder} cannot be loaded: {cause}")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
