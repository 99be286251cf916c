"""The command line of a vLLM server, decided from what there is to serve and what there is to serve it on.

Pure: the same model on the same machine always gives the same words in the same order.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runtimes.engines.options import EngineOptions
from runtimes.failure import Exit, StartupFailure

MODULE = "vllm.entrypoints.openai.api_server"
# Ranks that vLLM has kernels for; an adapter is served with the next one.
LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)


def command(
    options: EngineOptions, *, socket: Path, name: str, loras: Mapping[str, tuple[Path, int]]
) -> list[str]:
    """The words that start the server; `loras` are folders and ranks by the name they are served as."""
    words = [
        *(sys.executable, "-m", MODULE),
        *("--uds", str(socket)),
        *("--model", str(options.folder)),
        *("--served-model-name", name),
        *("--dtype", _dtype(options)),
        "--no-enable-log-requests",
        *("--uvicorn-log-level", "error"),
    ]
    if options.max_model_len or options.machine.gpus:
        # Of itself vLLM refuses to start where the model's whole context does not fit beside its weights.
        words += ["--max-model-len", str(options.max_model_len or "auto")]
    if options.loading.chat_template:
        words += ["--chat-template", options.loading.chat_template]
    if options.loading.load_in_4bit:
        words += ["--quantization", "bitsandbytes"]
    if options.loading.load_in_8bit:
        raise StartupFailure(
            Exit.SETTINGS,
            "vLLM loads no model in 8 bits: use --load_in_4bit or --engine=transformers",
        )
    return [*words, *parallel(options), *_loras(loras), *flags(options.vllm)]


def parallel(options: EngineOptions) -> list[str]:
    """How the model lies on the GPUs of one node, or of several.

    A model that fills less than half of one GPU is copied to each; any other is cut through all GPUs
    of a node, and between nodes into consecutive parts.
    """
    machine = options.machine
    if not machine.gpus:
        return ["--enforce-eager"]  # a CPU: nothing to compile for
    words = ["--gpu-memory-utilization", f"{options.gpu_memory_utilization:g}"]
    if options.nodes > 1:
        return [
            *words,
            *("--tensor-parallel-size", str(machine.gpus)),
            *("--pipeline-parallel-size", str(options.nodes)),
            *("--distributed-executor-backend", "ray"),
        ]
    if machine.gpus > 1 and 2 * options.weight_bytes < machine.gpu_memory:
        return [*words, "--data-parallel-size", str(machine.gpus)]
    return [*words, "--tensor-parallel-size", str(machine.gpus)]


def flags(settings: Mapping[str, Any]) -> list[str]:
    """The user's own settings as flags, in the file's order and after all of ours, so that they win."""
    words: list[str] = []
    for name, value in settings.items():
        flag = "--" + str(name).replace("_", "-")
        if value is True:
            words.append(flag)
        elif value is False:
            words.append(flag.replace("--", "--no-", 1))
        elif value is not None:
            words += [flag, str(value)]
    return words


def _dtype(options: EngineOptions) -> str:
    asked = options.loading.torch_dtype
    return "float32" if asked == "auto" and not options.machine.gpus else asked


def _loras(loras: Mapping[str, tuple[Path, int]]) -> Sequence[str]:
    if not loras:
        return ()
    rank = max(rank for _, rank in loras.values())
    fitting = [size for size in LORA_RANKS if size >= rank]
    if not fitting:
        raise StartupFailure(
            Exit.WEIGHTS,
            f"the adapters together have rank {rank}, vLLM serves at most {LORA_RANKS[-1]}: "
            "serve fewer, or use --engine=transformers",
        )
    modules = [f"{name}={folder}" for name, (folder, _) in loras.items()]
    return [
        "--enable-lora",
        *("--max-loras", str(len(loras))),
        *("--max-lora-rank", str(fitting[0])),
        *("--lora-modules", *modules),
    ]
