"""Count what one generation does, from its events alone, so that every engine is counted alike."""

import time

from runtimes.engines.contract import Delta, Event, Finished, Started
from runtimes.serving.metrics import Metrics
from runtimes.serving.observe import Usage


class Meter:
    """Follows the events of one generation."""

    def __init__(self, metrics: Metrics, usage: Usage) -> None:
        self._metrics = metrics
        self._usage = usage
        self._admitted = time.monotonic()
        self._first_token: float | None = None
        self._new_tokens = 0

    def see(self, event: Event) -> None:
        """Account for the next event."""
        match event:
            case Started():
                self._usage.prompt_tokens = event.prompt_tokens
                self._metrics.prompt_tokens.labels(self._metrics.model).inc(event.prompt_tokens)
            case Delta():
                self._made(event.tokens)
            case Finished():
                self._made(event.new_tokens - self._new_tokens)
                self._finish()

    def _made(self, tokens: int) -> None:
        if tokens <= 0:
            return
        if self._first_token is None:
            self._first_token = time.monotonic()
            waited = self._first_token - self._admitted
            self._usage.first_token = waited
            self._metrics.first_token.labels(self._metrics.model).observe(waited)
        self._new_tokens += tokens
        self._usage.new_tokens = self._new_tokens
        self._metrics.new_tokens.labels(self._metrics.model).inc(tokens)

    def _finish(self) -> None:
        if self._first_token is not None and self._new_tokens > 1:
            seconds = (time.monotonic() - self._first_token) / (self._new_tokens - 1)
            self._metrics.per_token.labels(self._metrics.model).observe(seconds)
