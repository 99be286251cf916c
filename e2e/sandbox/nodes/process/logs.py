"""What the API server asks a kubelet for when someone runs `kubectl logs`.

Invariant: only the log files of this driver's containers are read, found by names that the driver
gave, never by a path that a client sent.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from sandbox.aks.pki import ensure_pki
from sandbox.aks.server import bound_socket, serving

LOOK_AGAIN: Final = 0.3
CHUNK: Final = 64 * 1024

FindLog = Callable[[str, str, str, bool], Path | None]
"""From namespace, pod, container and whether the previous run is meant to the log file."""
StillRuns = Callable[[str, str], bool]
"""Whether the pod of this namespace and name is still here."""


def application(find: FindLog, runs: StillRuns) -> Starlette:
    """Builds the part of a kubelet's API that `kubectl logs` needs."""

    async def logs(request: Request) -> Response:
        namespace, pod, container = (
            request.path_params[name] for name in ("namespace", "pod", "container")
        )
        query = request.query_params
        path = find(namespace, pod, container, query.get("previous") == "true")
        if path is None:
            text = f"container {container!r} of pod {namespace}/{pod} has no such log on this node"
            return PlainTextResponse(text, 404)
        start = await asyncio.to_thread(_start, path, query.get("tailLines"))
        follow = query.get("follow") == "true"
        chunks = _chunks(path, start, lambda: follow and runs(namespace, pod))
        return StreamingResponse(chunks, media_type="text/plain")

    return Starlette(routes=[Route("/containerLogs/{namespace}/{pod}/{container}", logs)])


@contextlib.asynccontextmanager
async def served(folder: Path, find: FindLog, runs: StillRuns) -> AsyncIterator[int]:
    """Serves logs on a free port of 127.0.0.1 for as long as the context lasts; yields the port.

    The API server does not verify a kubelet's certificate unless it is told an authority.
    """
    pki = ensure_pki(folder / "pki", ["127.0.0.1"])
    with contextlib.closing(bound_socket("127.0.0.1", 0)) as listener:
        app = application(find, runs)
        async with serving(app, listener, certificate=pki.certificate, key=pki.key):
            yield int(listener.getsockname()[1])


def _start(path: Path, tail_lines: str | None) -> int:
    """Returns the offset at which the wanted last lines begin."""
    if tail_lines is None or not tail_lines.isdigit():
        return 0
    count = int(tail_lines)
    if count == 0:
        return path.stat().st_size
    starts: deque[int] = deque(maxlen=count)
    offset = 0
    with path.open("rb") as log:
        for line in log:
            starts.append(offset)
            offset += len(line)
    return starts[0] if starts else 0


async def _chunks(path: Path, offset: int, goes_on: Callable[[], bool]) -> AsyncIterator[bytes]:
    with await asyncio.to_thread(path.open, "rb") as log:
        log.seek(offset)
        while True:
            last = not goes_on()
            while chunk := log.read(CHUNK):
                yield chunk
            if last:
                return
            await asyncio.sleep(LOOK_AGAIN)
