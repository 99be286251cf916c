"""Which engine runs the model, decided once from the settings and this machine."""

import importlib
import importlib.util
from collections.abc import Callable

from runtimes.engines.contract import Engine
from runtimes.engines.options import EngineOptions
from runtimes.failure import Exit, StartupFailure
from runtimes.serving.hardware import gpus
from runtimes.serving.settings import Settings

NO_VLLM = (
    "the model is to run on vllm, which this image does not have: name the image's GPU build (target serve-gpu), "
    "by runtimeImageTag of the chart or the annotation kaito.sh/upgrade-to-version"
)
EngineMaker = Callable[[EngineOptions], Engine]


def runs_vllm(settings: Settings) -> bool:
    """True if the model runs on vLLM: asked for, needed by several nodes, or there with a GPU."""
    if settings.engine != "auto":
        return settings.engine == "vllm"
    if settings.nodes > 1:
        return True
    return bool(gpus()) and importlib.util.find_spec("vllm") is not None


def engine_maker(settings: Settings) -> EngineMaker:
    """What makes the engine of this server.

    Raises:
        StartupFailure: it is vLLM, and this image has none; told before weights are downloaded.
    """
    if not runs_vllm(settings):
        return transformers_engine
    if importlib.util.find_spec("vllm") is None:
        raise StartupFailure(Exit.SETTINGS, NO_VLLM)
    return vllm_engine


def transformers_engine(options: EngineOptions) -> Engine:
    """An engine on transformers; imported here because torch alone takes seconds."""
    module = importlib.import_module("runtimes.engines.transformers_engine")
    engine: Engine = module.TransformersEngine(options)
    return engine


def vllm_engine(options: EngineOptions) -> Engine:
    """An engine on vLLM's own server, or this node's part of one."""
    if options.node_rank > 0:
        module = importlib.import_module("runtimes.engines.vllm.cluster")
        worker: Engine = module.WorkerEngine(options)
        return worker
    module = importlib.import_module("runtimes.engines.vllm.engine")
    engine: Engine = module.VllmEngine(options)
    return engine
