"""The parts of one running server, as its routes see them."""

import time
from dataclasses import dataclass

from runtimes.engines.contract import Engine, ModelInfo
from runtimes.serving.gate import Gate
from runtimes.serving.metrics import Metrics
from runtimes.serving.settings import Settings


@dataclass
class Deployment:
    """Settings, gate and counters from the first second; the engine once its model is loaded."""

    settings: Settings
    metrics: Metrics
    gate: Gate
    engine: Engine | None = None
    info: ModelInfo | None = None
    loaded_at: int = 0
    """seconds since 1970"""

    @classmethod
    def begin(cls, settings: Settings) -> "Deployment":
        """A deployment whose model is still to be loaded."""
        metrics = Metrics(settings.model_name)
        gate = Gate(metrics, max_queue=settings.max_queue, request_timeout=settings.request_timeout)
        return cls(settings, metrics, gate)

    def loaded(self, engine: Engine, info: ModelInfo) -> None:
        """Begin to serve a model."""
        self.engine, self.info, self.loaded_at = engine, info, int(time.time())
        self.metrics.loaded(info)
        self.gate.open()

    def model(self) -> Engine:
        """The engine; raises `Refused` with status 503 unless it takes work."""
        self.gate.check()
        assert self.engine is not None, "the gate opens after the engine is set"
        return self.engine

    def problems(self) -> list[str]:
        """Why this process should be replaced, as sentences; empty while it can serve."""
        return self.engine.problems() if self.engine else []
