"""One chain for all log records: ours and those of the libraries.

Invariant: one line per record on standard output, and no secret in it: no response bodies, no
values of variables in stack traces.
"""

import logging
import sys
from typing import TextIO

import structlog
from structlog.typing import Processor

_QUIET = {
    "kubernetes_asyncio": logging.INFO,  # its debug records hold whole response bodies
    "aiohttp": logging.INFO,
    "asyncio": logging.INFO,
    "uvicorn": logging.WARNING,
}
LEVELS = ("debug", "info", "warning", "error")


def configure(level: str = "info", json: bool | None = None, stream: TextIO | None = None) -> None:
    """Sets up structlog and the standard library's logging for the whole process.

    Args:
        level: one of `LEVELS`.
        json: JSON lines, or text for eyes; None takes text on a terminal only.
        stream: standard output when None.

    Raises:
        ValueError: there is no such level.
    """
    if level.lower() not in LEVELS:
        raise ValueError(f"log level {level!r} is none of {', '.join(LEVELS)}")
    threshold = getattr(logging, level.upper())
    out = stream or sys.stdout
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_rendering(json if json is not None else not out.isatty()),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(threshold)
    for name, floor in _QUIET.items():
        logging.getLogger(name).setLevel(max(floor, threshold))
    logging.captureWarnings(capture=True)


def _rendering(json: bool) -> list[Processor]:
    if json:
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    return [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
