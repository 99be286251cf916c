"""The HTTP application: probes, metrics, `/chat` and OpenAI's interface over one deployment.

While the model loads, everything but the metrics answers 503, so no probe passes too early; while the server
drains, it stays alive but not ready.
"""

import asyncio

import httpx2
import structlog
from fastapi import Depends, FastAPI
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from runtimes.engines.contract import Refused
from runtimes.serving.chat import chat_routes
from runtimes.serving.deployment import Deployment
from runtimes.serving.engine_choice import runs_vllm
from runtimes.serving.hardware import report
from runtimes.serving.keys import ApiKeys
from runtimes.serving.limits import BodyLimit
from runtimes.serving.observe import Observe
from runtimes.serving.openai_routes import openai_routes
from runtimes.serving.proxy import proxy_routes
from runtimes.serving.refusals import add_refusals

ENGINE_SECONDS = 2.0

log = structlog.get_logger(__name__)


def application(deployment: Deployment) -> ASGIApp:
    """The ASGI application of a server; raises `StartupFailure` for keys that cannot be read."""
    # Clients of v0.3 could leave the Content-Type out.
    app = FastAPI(title="Model server", version="0.1.0", strict_content_type=False)
    add_refusals(app)
    _probes(app, deployment)
    _metrics(app, deployment)
    key_file = deployment.settings.api_key_file
    guards = [Depends(ApiKeys(key_file).check)] if key_file else []
    app.include_router(chat_routes(deployment, guards))
    v1 = proxy_routes if runs_vllm(deployment.settings) else openai_routes
    app.include_router(v1(deployment, guards))
    return Observe(BodyLimit(app, deployment.settings.max_body_bytes), deployment.metrics)


def _probes(app: FastAPI, deployment: Deployment) -> None:
    gate = deployment.gate

    def check_alive() -> None:
        """Raise `Refused` unless the model is loaded and able to answer."""
        if gate.phase == "loading":
            gate.check()
        if problems := deployment.problems():
            raise Refused(500, "; ".join(problems))

    @app.get("/")
    async def root() -> dict[str, str]:
        check_alive()
        return {"message": "Server is running"}

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        check_alive()
        return {"status": "Healthy"}

    @app.get("/health")
    async def health() -> dict[str, str]:
        check_alive()
        return {"status": "Healthy"}

    @app.get("/ready")
    async def ready() -> dict[str, str]:
        gate.check()
        check_alive()
        return {"status": "Ready"}


def _metrics(app: FastAPI, deployment: Deployment) -> None:
    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        ours = await asyncio.to_thread(generate_latest, deployment.metrics.registry)
        theirs = await _of_the_engine(deployment)
        return Response(ours + theirs.encode(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/metrics.json")
    def metrics_json() -> JSONResponse:
        return JSONResponse(report())


async def _of_the_engine(deployment: Deployment) -> str:
    """The engine's own metrics; ours are there without them, too."""
    if deployment.engine is None:
        return ""
    try:
        async with asyncio.timeout(ENGINE_SECONDS):
            return await deployment.engine.exposition()
    except (TimeoutError, httpx2.TransportError) as error:
        log.warning("the engine gives no metrics", error=repr(error))
        return ""
