"""The door for foreign errors from the API server: HTTP statuses and broken connections.

Invariant: nothing but a `ControlError` leaves the `kube` package, and each names the verb, the
path and what the server said.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import aiohttp
from pydantic import Field, ValidationError

from controlkit.errors import (
    AlreadyExists,
    Blocked,
    ControlError,
    NotFound,
    Rejected,
    Stale,
    Transient,
)
from controlkit.kube.objects import ApiModel


@dataclass(eq=False)
class Expired(Stale):
    """The resourceVersion or continue token is older than the server's memory (410)."""


@dataclass(eq=False)
class FieldConflict(Blocked):
    """Another field manager owns a field that a non-forced apply wants to change."""


class _Cause(ApiModel):
    reason: str = ""
    message: str = ""
    field: str = ""


class _Details(ApiModel):
    causes: tuple[_Cause, ...] = ()
    retry_after_seconds: float | None = None


class Status(ApiModel):
    """What the API server answers in place of an object."""

    message: str = ""
    reason: str = ""
    code: int = 0
    details: _Details = Field(default_factory=_Details)

    @classmethod
    def parse(cls, body: bytes, code: int) -> "Status":
        """Reads a refusal's body, which a proxy on the way may have written in its own form."""
        try:
            status = cls.model_validate_json(body)
        except ValidationError:
            text = body[:300].decode(errors="replace").strip()
            return cls(message=text or "no explanation in the answer", code=code)
        return status.model_copy(update={"code": code})


_KINDS: dict[int, type[ControlError]] = {
    403: Blocked,
    404: NotFound,
    409: Stale,
    410: Expired,
    412: Stale,
}
_TRANSIENT = frozenset({401, 408, 429})
_UNTYPED = "failed to create typed patch object"
"""So begins the API server's answer to an applied object that does not fit its schema."""


def refusal(call: str, status: Status, retry_after: str | None = None) -> ControlError:
    """The error for a refused call.

    Args:
        call: verb and path, such as "PATCH /api/v1/…", for the message.
        status: the server's answer.
        retry_after: the Retry-After header, in seconds, when there was one.
    """
    reason = status.reason or f"Http{status.code}"
    message = f"{call} answered {status.code}: {status.message}"
    if status.code == 500 and status.message.startswith(_UNTYPED):
        return Rejected("Invalid", message)
    if status.code in _TRANSIENT or status.code >= 500:
        return Transient(reason, message, _seconds(retry_after, status))
    if status.code == 409 and status.reason == "AlreadyExists":
        return AlreadyExists(reason, message)
    taken = [cause for cause in status.details.causes if cause.reason == "FieldManagerConflict"]
    if status.code == 409 and taken:
        fields = "; ".join(f"{cause.field}: {cause.message}" for cause in taken)
        return FieldConflict("FieldConflict", f"{call} would take fields over: {fields}")
    return _KINDS.get(status.code, Rejected)(reason, message)


def _seconds(header: str | None, status: Status) -> float | None:
    if header is not None and header.strip().isdigit():
        return float(header)
    return status.details.retry_after_seconds


@contextmanager
def mapped(call: str, seconds: float) -> Iterator[None]:
    """Turns whatever breaks underneath a call into one of the four kinds.

    Args:
        call: verb and path, for the message.
        seconds: the call's deadline, for the message.
    """
    try:
        yield
    except TimeoutError as error:
        raise Transient("Timeout", f"{call} had no answer within {seconds:g} s") from error
    except (aiohttp.ClientError, OSError) as error:
        detail = str(error) or type(error).__name__
        raise Transient("Unreachable", f"{call} failed: {detail}") from error
