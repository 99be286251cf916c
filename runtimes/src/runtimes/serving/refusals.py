"""How refusals look to a client: `/chat` has always sent `detail`, OpenAI's clients read `error`."""

import difflib
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exception_handlers import (
    http_exception_handler,
    request_validation_exception_handler,
)
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from runtimes.engines.contract import Refused
from runtimes.serving.observe import Usage
from runtimes.serving.openai_schemas import ChatCompletionBody, TextCompletionBody
from runtimes.serving.schemas import GenerateKwargs

OPENAI = "/v1/"
KWARGS = ("body", "generate_kwargs")
# A key or value that no model can be asked for is a bad request; a wrong type stays a 422, as in v0.3.
OUT_OF_RANGE = {
    "extra_forbidden",
    "finite_number",
    "greater_than",
    "greater_than_equal",
    "less_than",
    "less_than_equal",
    "literal_error",
    "too_long",
    "too_short",
    "string_too_long",
    "string_too_short",
    "value_error",
}
# The kinds of errors that OpenAI's clients tell apart, by status.
KINDS = {
    401: "authentication_error",
    404: "invalid_request_error",
    429: "requests",
    499: "client_closed_request",
}
CODES = {429: "rate_limit_exceeded", 504: "timeout"}


def add_refusals(app: FastAPI) -> None:
    """Teach an application to answer for what it does not do."""
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _no_such_route)
    app.add_exception_handler(Exception, _unexpected)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return refusal(error, request.url.path)


def refusal(refused: Refused, path: str) -> Response:
    """The response for a refusal, as clients of the path know it."""
    headers = {}
    if refused.retry_after is not None:
        headers["Retry-After"] = str(refused.retry_after)
    if refused.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if refused.status in {408, 413, 503}:
        # Not ready for more, or the rest of the body was never read.
        headers["Connection"] = "close"
    return JSONResponse(content(refused, path), refused.status, headers)


def content(refused: Refused, path: str) -> dict[str, Any]:
    """The body of a refusal."""
    if path.startswith(OPENAI):
        kind = "server_error" if refused.status >= 500 else "invalid_request_error"
        return {
            "error": {
                "message": str(refused),
                "type": KINDS.get(refused.status, kind),
                "param": refused.param or None,
                "code": refused.code or CODES.get(refused.status),
            }
        }
    said = {"detail": refused.detail}
    if refused.hint:
        said["hint"] = refused.hint
    return said


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    path, problems = request.url.path, error.errors()
    if path.startswith(OPENAI):
        return refusal(_openai(path, problems), path)
    if all(item["loc"][:2] == KWARGS and item["type"] in OUT_OF_RANGE for item in problems):
        return refusal(
            Refused(400, "; ".join(_sentence(item, GenerateKwargs) for item in problems)), path
        )
    try:
        return await request_validation_exception_handler(request, error)
    except ValueError:  # the body held NaN, which JSON cannot give back
        return JSONResponse({"detail": [_without_input(item) for item in problems]}, 422)


def _openai(path: str, problems: Sequence[dict[str, Any]]) -> Refused:
    body = ChatCompletionBody if path.endswith("/chat/completions") else TextCompletionBody
    malformed = any(item["type"] not in OUT_OF_RANGE for item in problems)
    first = ".".join(str(part) for part in problems[0]["loc"][1:])
    return Refused(
        422 if malformed else 400,
        "; ".join(_sentence(item, body) for item in problems),
        code="invalid_value",
        param=first,
    )


def _sentence(
    problem: dict[str, Any], known: type[GenerateKwargs | ChatCompletionBody | TextCompletionBody]
) -> str:
    path = ".".join(str(part) for part in problem["loc"][1:])
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(problem["loc"][-1]), known.model_fields, 1)
        advice = f"did you mean {near[0]}?" if near else "see /docs for those that are"
        return f"{path} is not accepted: {advice}"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] in {"value_error", "missing", "json_invalid"}:
        return f"{path}: {message}"
    return f"{path} {problem['input']!r:.60}: {message}"


def _without_input(problem: dict[str, Any]) -> dict[str, Any]:
    return {name: problem[name] for name in ("type", "loc", "msg")}


async def _no_such_route(request: Request, error: Exception) -> Response:
    """Also for a body so deep that it cannot be read."""
    assert isinstance(error, HTTPException)
    if request.url.path.startswith(OPENAI):
        return refusal(Refused(error.status_code, error.detail), request.url.path)
    return await http_exception_handler(request, error)


async def _unexpected(request: Request, error: Exception) -> Response:
    del error  # logged, with this id, by the outermost layer
    usage: Usage = request.state.usage
    text = f"Internal error; the log knows more under {usage.request_id}"
    return refusal(Refused(500, text), request.url.path)
