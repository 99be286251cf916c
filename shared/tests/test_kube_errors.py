"""Which kind of failure each answer of the API server is."""

import json
from typing import Any

import aiohttp
import pytest

from controlkit.errors import (
    AlreadyExists,
    Blocked,
    ControlError,
    NotFound,
    Rejected,
    Stale,
    Transient,
)
from controlkit.kube.errors import Expired, FieldConflict, Status, mapped, refusal


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (400, "BadRequest", Rejected),
        (401, "Unauthorized", Transient),
        (403, "Forbidden", Blocked),
        (404, "NotFound", NotFound),
        (405, "MethodNotAllowed", Rejected),
        (408, "", Transient),
        (409, "Conflict", Stale),
        (409, "AlreadyExists", AlreadyExists),
        (410, "Expired", Expired),
        (412, "", Stale),
        (413, "RequestEntityTooLarge", Rejected),
        (415, "UnsupportedMediaType", Rejected),
        (422, "Invalid", Rejected),
        (429, "TooManyRequests", Transient),
        (500, "InternalError", Transient),
        (503, "ServiceUnavailable", Transient),
        (504, "Timeout", Transient),
    ],
)
def test_a_status_is_one_kind(code: int, reason: str, kind: type[ControlError]) -> None:
    error = refusal("GET /x", Status(code=code, reason=reason, message="why"))
    assert type(error) is kind
    assert error.message == f"GET /x answered {code}: why"
    assert error.reason == (reason or f"Http{code}")


def test_an_applied_object_that_fits_no_schema_is_rejected_whatever_the_code() -> None:
    message = "failed to create typed patch object (…): .spec.x: field not declared in schema"
    error = refusal("PATCH /x", Status(code=500, message=message))
    assert (type(error), error.reason) == (Rejected, "Invalid")
    assert ".spec.x" in error.message


def parsed(code: int, **body: Any) -> Status:
    return Status.parse(json.dumps({"kind": "Status", "code": 1} | body).encode(), code)


def test_a_conflict_of_field_managers_is_blocked_and_names_them() -> None:
    cause = {
        "reason": "FieldManagerConflict",
        "message": 'conflict with "helm"',
        "field": ".spec.x",
    }
    status = parsed(409, reason="Conflict", details={"causes": [cause]})
    error = refusal("PATCH /x", status)
    assert isinstance(error, FieldConflict)
    assert '.spec.x: conflict with "helm"' in error.message


@pytest.mark.parametrize(
    ("header", "details", "expected"),
    [
        ("7", {}, 7.0),
        (None, {"retryAfterSeconds": 3}, 3.0),
        ("7", {"retryAfterSeconds": 3}, 7.0),
        ("Wed, 21 Oct 2030 07:28:00 GMT", {}, None),
        (None, {}, None),
    ],
)
def test_the_wait_that_was_asked_for_is_kept(
    header: str | None, details: dict[str, Any], expected: float | None
) -> None:
    error = refusal("GET /x", parsed(429, details=details), header)
    assert isinstance(error, Transient)
    assert error.retry_after == expected


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html>bad gateway</html>", "<html>bad gateway</html>"),
        (b"", "no explanation in the answer"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"[1]", "[1]"),
    ],
)
def test_an_answer_that_is_no_status_is_quoted(body: bytes, message: str) -> None:
    status = Status.parse(body, 502)
    assert (status.code, status.message) == (502, message)


@pytest.mark.parametrize(
    ("raised", "reason", "says"),
    [
        (TimeoutError(), "Timeout", "GET /x had no answer within 30 s"),
        (aiohttp.ClientPayloadError("cut"), "Unreachable", "GET /x failed: cut"),
        (aiohttp.ServerDisconnectedError(), "Unreachable", "Server disconnected"),
        (ConnectionResetError(), "Unreachable", "ConnectionResetError"),
    ],
)
def test_a_broken_connection_is_transient(raised: Exception, reason: str, says: str) -> None:
    with pytest.raises(Transient) as caught, mapped("GET /x", 30):
        raise raised
    assert caught.value.reason == reason
    assert says in caught.value.message


def test_a_bug_of_ours_passes_through() -> None:
    with pytest.raises(ZeroDivisionError), mapped("GET /x", 30):
        raise ZeroDivisionError


def test_an_error_reads_as_reason_and_sentence() -> None:
    assert str(Rejected("Invalid", "count must be positive")) == "Invalid: count must be positive"
