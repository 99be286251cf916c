"""What the job tells while it runs: /progress, /metrics and /health, and at the end its last word.

Reading never waits for the training: figures are the newest that it left on the board.
"""

import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from runtimes.failure import Exit, Failure
from runtimes.serving.hardware import gpus
from runtimes.tuning.task import Board, Progress

REQUEST_SECONDS = 10
MESSAGE_BYTES = 4000
_REASONS = {
    Exit.SETTINGS: "InvalidConfig",
    Exit.DATA: "InvalidData",
    Exit.MEMORY: "OutOfMemory",
    Exit.REGISTRY: "PushFailed",
    Exit.INTERRUPTED: "Interrupted",
    Exit.UNEXPECTED: "Unexpected",
}


@dataclass
class Status:
    """Where the job stands; `image` and `digest` are of the pushed adapter."""

    board: Board
    phase: str = "Preparing"
    image: str | None = None
    digest: str | None = None
    failure: Failure | None = None

    def progress(self) -> Progress:
        """The training's figures, in the job's phase unless the training is what goes on."""
        told = self.board.progress()
        return told if self.phase == "Training" else replace(told, phase=self.phase)

    def word(self) -> dict[str, Any]:
        """The fields of the termination message."""
        told = self.progress()
        failure = self.failure
        return {
            "phase": told.phase,
            "step": told.step,
            "total": told.total,
            "epoch": round(told.epoch, 4),
            "loss": told.loss,
            "eval_loss": told.eval_loss,
            "image": self.image,
            "digest": self.digest,
            "error": failure.message if failure else None,
            "reason": (failure.reason or _REASONS[failure.code]) if failure else None,
        }

    def last_word(self) -> str:
        """The termination message, short enough for Kubernetes to keep it whole."""
        word = self.word()
        error = word["error"] or ""
        while len(encoded := json.dumps(word)) > MESSAGE_BYTES and error:
            error = error[: len(error) * 3 // 4]
            word["error"] = f"{error}…"
        return encoded

    def answer(self) -> dict[str, Any]:
        """The body of /progress."""
        told = self.progress()
        rates = {"tokens_per_second": told.tokens_per_second, "seconds_left": told.seconds_left}
        return {**self.word(), **rates}


class Figures(Collector):
    """The training's figures as metrics; what is not known yet is left out."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        """Read the board once."""
        told = asdict(self._status.progress())
        for name, (field, text) in _METRICS.items():
            family = GaugeMetricFamily(f"kaito_tuning_{name}", text)
            if (value := told[field]) is not None:
                family.add_metric([], value)
            yield family
        memory = GaugeMetricFamily("kaito_gpu_memory_bytes", "GPU memory.", labels=["gpu", "kind"])
        for gpu in gpus():
            for kind, size in (("used", gpu.memory_used), ("total", gpu.memory_total)):
                if size is not None:
                    memory.add_metric([gpu.id, kind], size)
        yield memory


_METRICS = {
    "step": ("step", "Steps that are done."),
    "total_steps": ("total", "Steps of the whole training; 0 until it begins."),
    "epoch": ("epoch", "Passes over the dataset."),
    "loss": ("loss", "Training loss, mean since the last time it was logged."),
    "eval_loss": ("eval_loss", "Loss on the rows that are not trained on."),
    "grad_norm": ("grad_norm", "Norm of the gradient."),
    "tokens_per_second": ("tokens_per_second", "Tokens that were trained on, per second."),
    "seconds_left": ("seconds_left", "Time that the training still needs."),
}


def serve(status: Status, host: str, port: int) -> ThreadingHTTPServer:
    """Answer on a thread of its own until the process ends. Raises `Failure`."""
    registry = CollectorRegistry()
    registry.register(Figures(status))

    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_SECONDS

        def do_GET(self) -> None:
            """Answer one of the three paths."""
            path = self.path.partition("?")[0]
            if path == "/progress":
                self._send(200, "application/json", json.dumps(status.answer()).encode())
            elif path == "/metrics":
                self._send(200, CONTENT_TYPE_LATEST, generate_latest(registry))
            elif path in {"/health", "/healthz", "/"}:
                self._send(200, "application/json", b'{"status": "Healthy"}')
            else:
                self._send(404, "application/json", b'{"detail": "Not Found"}')

        def _send(self, code: int, kind: str, body: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """A probe every few seconds is no news."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    try:
        server = Server((host, port), Handler)
    except OSError as error:
        raise Failure(
            Exit.SETTINGS, f"cannot listen on --host {host} --port {port}: {error}"
        ) from error
    threading.Thread(target=server.serve_forever, name="status", daemon=True).start()
    return server
