"""The HTTPS application that answers the API server's admission reviews.

Invariant: it decides nothing; a request goes to the `Judge` of its path.
"""

from typing import Final

from fastapi import FastAPI
from starlette.routing import BaseRoute

from controlkit.admission_routes import admission_routes
from workspace_controller.webhooks.review import Judge

PATH: Final = "/validate/workspace.kaito.sh"


def admission_app(judge: Judge) -> FastAPI:
    """The application; it has no documentation pages, for only the API server calls it."""
    routes: list[BaseRoute] = [*admission_routes({PATH: judge})]
    return FastAPI(
        title="Workspace admission", openapi_url=None, docs_url=None, redoc_url=None, routes=routes
    )
