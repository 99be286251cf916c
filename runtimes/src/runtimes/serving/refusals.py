"""How refusals look to a client of `/chat`: a JSON body with `detail`, as it has always been."""

import difflib
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exception_handlers import request_validation_exception_handler
from fastapi.exceptions import RequestValidationError
from starlette.responses import JSONResponse, Response

from runtimes.engines.contract import Refused
from runtimes.serving.observe import Usage
from runtimes.serving.schemas import GenerateKwargs

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


def add_refusals(app: FastAPI) -> None:
    """Teach an application to answer for what it does not do."""
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _unexpected)


async def _refused(request: Request, error: Exception) -> Response:
    del request
    assert isinstance(error, Refused)
    return refusal(error)


def refusal(refused: Refused) -> Response:
    """The response for a refusal."""
    content = {"detail": refused.detail}
    if refused.hint:
        content["hint"] = refused.hint
    headers = {}
    if refused.retry_after is not None:
        headers["Retry-After"] = str(refused.retry_after)
    if refused.status == 503:
        headers["Connection"] = "close"
    return JSONResponse(content, refused.status, headers)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problems = error.errors()
    if all(item["loc"][:2] == KWARGS and item["type"] in OUT_OF_RANGE for item in problems):
        return refusal(Refused(400, "; ".join(map(_sentence, problems))))
    try:
        return await request_validation_exception_handler(request, error)
    except ValueError:  # the body held NaN, which JSON cannot give back
        return JSONResponse({"detail": [_without_input(item) for item in problems]}, 422)


def _sentence(problem: dict[str, Any]) -> str:
    path = ".".join(str(part) for part in problem["loc"][1:])
    if problem["type"] == "extra_forbidden":
        name = str(problem["loc"][2])
        near = difflib.get_close_matches(name, GenerateKwargs.model_fields, 1)
        advice = f"did you mean {near[0]}?" if near else "see /docs for those that are"
        return f"{path} is not accepted: {advice}"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return f"{path}: {message}"
    return f"{path} {problem['input']!r:.60}: {message}"


def _without_input(problem: dict[str, Any]) -> dict[str, Any]:
    return {name: problem[name] for name in ("type", "loc", "msg")}


async def _unexpected(request: Request, error: Exception) -> Response:
    del error  # logged, with this id, by the outermost layer
    usage: Usage = request.state.usage
    return refusal(Refused(500, f"Internal error; the log knows more under {usage.request_id}"))
