"""Run one server from its first second to its last: port, model, requests, drain.

The order of the end is fixed: not ready, no new work, running work ends or is ended, the port closes, the
engine closes.
"""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
import uvicorn

from runtimes.engines.contract import Engine
from runtimes.failure import Exit, StartupFailure
from runtimes.serving.app import application
from runtimes.serving.bring_up import Progress, bring_up
from runtimes.serving.deployment import Deployment
from runtimes.serving.engine_choice import EngineMaker
from runtimes.serving.settings import Settings

CLOSE_SECONDS = 5

log = structlog.get_logger(__name__)


def listen(settings: Settings) -> socket.socket:
    """Take the port; raises `StartupFailure`."""
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=512)
        # asyncio does this for sockets it makes itself; without it each answer waits 40 ms for an ACK.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except (OSError, UnicodeError) as error:
        raise StartupFailure(
            Exit.SETTINGS,
            f"cannot listen on --host {settings.host} --port {settings.port}: {error}",
        ) from error
    return listener


class Server:
    """One server; `run` it once, `stop` it from its own event loop."""

    def __init__(self, settings: Settings, make_engine: EngineMaker) -> None:
        self._settings = settings
        self._make_engine = make_engine
        self._deployment = Deployment.begin(settings)
        self._engine: Engine | None = None
        self._failure: StartupFailure | None = None
        self._end = asyncio.Event()

    @property
    def stopping(self) -> bool:
        """True once the server is on its way out."""
        return self._end.is_set()

    def stop(self) -> None:
        """Begin the drain; `run` returns when it is over."""
        self._end.set()

    async def run(self, listener: socket.socket) -> None:
        """Serve on `listener` until stopped; raises `StartupFailure` if the model cannot be served."""
        http = _Http(
            uvicorn.Config(
                application(self._deployment),
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=CLOSE_SECONDS,
            )
        )
        host, port = listener.getsockname()[:2]
        log.info("listening", host=host, port=port, model=self._settings.model_name)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._answer(http, listener))
            working = group.create_task(self._work())
            await self._end.wait()
            await self._deployment.gate.drain(self._settings.drain_timeout)
            http.should_exit = True
            working.cancel()
        if self._engine is not None:
            await self._engine.close()
        log.info("stopped")
        if self._failure is not None:
            raise self._failure

    async def _answer(self, http: uvicorn.Server, listener: socket.socket) -> None:
        """Serve HTTP until told to stop; if it ends by itself, so does the server."""
        try:
            await http.serve(sockets=[listener])
        finally:
            self._end.set()

    async def _work(self) -> None:
        """Load the model, then let it work until cancelled."""
        progress = Progress(self._deployment.metrics)
        async with asyncio.TaskGroup() as group:
            reporting = group.create_task(progress.run())
            try:
                self._engine = await bring_up(self._deployment, self._make_engine, progress)
            except StartupFailure as failure:
                self._failure = failure
            reporting.cancel()
        if self._engine is None:
            self._end.set()
            return
        await self._engine.run()


class _Http(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to the program: uvicorn would stop before the drain."""
        yield
