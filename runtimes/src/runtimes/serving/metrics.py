"""What the server counts, under names that dashboards may rely on.

No label ever holds what a client sent: routes are templates, models are the names we serve.
"""

from collections.abc import Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from runtimes.engines.contract import ModelInfo
from runtimes.serving.hardware import gpus

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320)
STEP_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28)

disable_created_metrics()  # a second series for each, that nobody reads


class Metrics:
    """All series of one server, in a registry of its own."""

    def __init__(self, model: str) -> None:
        self.registry = CollectorRegistry()
        self.model = model
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.registry.register(_GpuMemory())
        self._requests()
        self._loading()

    def _requests(self) -> None:
        registry = self.registry
        self.requests = Counter(
            "kaito_requests_total",
            "Answered requests.",
            ["route", "model", "code"],
            registry=registry,
        )
        self.duration = Histogram(
            "kaito_request_duration_seconds",
            "From the first byte in to the last byte out.",
            ["route", "model"],
            buckets=SECONDS,
            registry=registry,
        )
        self.first_token = Histogram(
            "kaito_time_to_first_token_seconds",
            "From admission to the first new token, waiting included.",
            ["model"],
            buckets=SECONDS,
            registry=registry,
        )
        self.per_token = Histogram(
            "kaito_time_per_output_token_seconds",
            "Mean time of each new token after the first, by request.",
            ["model"],
            buckets=STEP_SECONDS,
            registry=registry,
        )
        self.prompt_tokens = Counter(
            "kaito_prompt_tokens_total", "Tokens read.", ["model"], registry=registry
        )
        self.new_tokens = Counter(
            "kaito_generation_tokens_total", "Tokens made.", ["model"], registry=registry
        )
        self.running = Gauge(
            "kaito_requests_running", "Requests that the model works on.", registry=registry
        )
        self.waiting = Gauge(
            "kaito_requests_waiting", "Requests in line for the model.", registry=registry
        )
        self.rejected = Counter(
            "kaito_ratelimit_rejected_total", "Requests refused with 429.", registry=registry
        )

    def _loading(self) -> None:
        registry = self.registry
        self.ready = Gauge(
            "kaito_model_ready",
            "1 while the model is loaded and new work is taken.",
            registry=registry,
        )
        self.load_seconds = Gauge(
            "kaito_model_load_seconds",
            "Time from the start of the process until the model was loaded; 0 before.",
            registry=registry,
        )
        self.download_bytes = Gauge(
            "kaito_model_download_bytes", "Bytes of the model on disk.", registry=registry
        )
        self.download_total = Gauge(
            "kaito_model_download_total_bytes", "Bytes of the whole model.", registry=registry
        )
        self.download_speed = Gauge(
            "kaito_model_download_speed_bytes_per_second",
            "Mean of the last seconds of the download.",
            registry=registry,
        )
        self.download_remaining = Gauge(
            "kaito_model_download_remaining_seconds",
            "Time that the download still needs; -1 if unknown.",
            registry=registry,
        )
        self.info = Gauge(
            "kaito_model_info",
            "The loaded model.",
            ["model", "revision", "engine", "version", "dtype", "quantization", "device"],
            registry=registry,
        )

        self.adapters = Gauge(
            "kaito_adapter_info",
            "A loaded LoRA adapter.",
            ["name", "rank", "strength"],
            registry=registry,
        )

    def loaded(self, info: ModelInfo) -> None:
        """Name the model that is now served, and its adapters."""
        for adapter in info.adapters:
            self.adapters.labels(adapter.name, str(adapter.rank), f"{adapter.strength:g}").set(1)
        self.info.labels(
            model=info.name,
            revision=info.revision,
            engine=info.engine,
            version=info.version,
            dtype=info.dtype,
            quantization=info.quantization,
            device=info.device,
        ).set(1)


class _GpuMemory(Collector):
    """Read when asked, so that an idle server reads nothing."""

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily("kaito_gpu_memory_bytes", "GPU memory.", labels=["gpu", "kind"])
        for gpu in gpus():
            for kind, size in (("used", gpu.memory_used), ("total", gpu.memory_total)):
                if size is not None:
                    family.add_metric([gpu.id, kind], size)
        yield family
