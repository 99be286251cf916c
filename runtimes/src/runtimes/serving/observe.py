"""Every request is named, counted and logged once, whatever becomes of it.

This is the outermost layer, so it is also the door where an unexpected error becomes a logged 500.
"""

import re
import time
import uuid
from dataclasses import dataclass

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtimes.serving.metrics import Metrics

REQUEST_ID = re.compile(r"[\w.:-]{1,128}")
# Kubelet and Prometheus ask every few seconds; their lines would bury all others.
QUIET_ROUTES = {"/", "/health", "/healthz", "/ready", "/metrics", "/metrics.json"}

log = structlog.get_logger(__name__)


@dataclass
class Usage:
    """What is known of one request when it ends; times in seconds."""

    request_id: str
    begin: float
    prompt_tokens: int | None = None
    new_tokens: int | None = None
    first_token: float | None = None
    code: int | None = None
    """what became of a streamed answer after its status was sent"""


class Observe:
    """ASGI layer around the whole application."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        usage = Usage(request_id, time.monotonic())
        scope.setdefault("state", {})["usage"] = usage
        status = 499  # unless something is sent

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, sending)
            except Exception:
                log.exception("the request failed unexpectedly")
            finally:
                self._record(scope, usage, usage.code or status)

    def _record(self, scope: Scope, usage: Usage, status: int) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        seconds = time.monotonic() - usage.begin
        metrics = self._metrics
        metrics.requests.labels(route, metrics.model, str(status)).inc()
        metrics.duration.labels(route, metrics.model).observe(seconds)
        if route in QUIET_ROUTES:
            return
        known = {
            "prompt_tokens": usage.prompt_tokens,
            "new_tokens": usage.new_tokens,
            "ttft_ms": None if usage.first_token is None else round(usage.first_token * 1000, 1),
        }
        log.info(
            "request",
            method=scope["method"],
            route=route,
            model=metrics.model,
            code=status,
            duration_ms=round(seconds * 1000, 1),
            **{name: value for name, value in known.items() if value is not None},
        )
