"""One JSON object per line, for our own events and for those of every library.

No line ever holds a prompt or an answer: events are constant sentences, data are keys.
"""

import logging
import sys
import warnings
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

# httpx and the hub client log one line per call at INFO; our own progress lines say it better.
QUIET = (
    *("httpcore", "httpx", "httpx2", "huggingface_hub", "transformers", "uvicorn", "accelerate"),
    *("bitsandbytes", "datasets", "trl"),
)


def configure(level: str, stream: TextIO | None = None) -> None:
    """Route structlog, the standard library and Python warnings through one JSON chain.

    `stream` is stdout unless that is where a program's answer goes.
    """
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        structlog.processors.format_exc_info,
    ]
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _in_order,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    logging.captureWarnings(capture=True)
    warnings.simplefilter("default")


def _in_order(logger: Any, method: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
    """When, how bad and what come first, so that lines can be read in a column."""
    del logger, method
    first = {name: event.pop(name) for name in ("ts", "level", "event")}
    return {**first, **event}
