"""Serves admission reviews over HTTP, in Starlette or inside a FastAPI application.

Invariant: the answer to a review is always 200 with a verdict; there is no way to a 500.
"""

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from controlkit.admission import Judge, answer

MOST_BYTES = 8 * 1024 * 1024


def admission_routes(judges: Mapping[str, Judge]) -> list[BaseRoute]:
    """Routes for `FastAPI(routes=…)` or `Starlette(routes=…)`.

    Args:
        judges: who decides, by URL path, such as "/validate/workspace.kaito.sh".
    """
    return [Route(path, _endpoint(judge), methods=["POST"]) for path, judge in judges.items()]


def _endpoint(judge: Judge) -> Callable[[Request], Awaitable[Response]]:
    async def review(request: Request) -> Response:
        body = bytearray()
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > MOST_BYTES:
                    return Response("an AdmissionReview has at most 8 MiB", 413)
        except ClientDisconnect:
            return Response(status_code=400)
        return Response(await answer(bytes(body), judge), media_type="application/json")

    return review
