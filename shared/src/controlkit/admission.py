"""Admission review: bytes in, verdict out.

Invariant: every request gets an answer that the API server can show to the person who made it;
what cannot be judged is denied with the reason.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

import structlog
from pydantic import ValidationError
from pydantic_core import from_json, to_json

from controlkit.kube.objects import ApiModel

log = structlog.get_logger(__name__)

WARNING_LENGTH = 256


class _Kind(ApiModel):
    group: str = ""
    version: str
    kind: str


class AdmissionRequest(ApiModel):
    """What somebody wants to do to an object."""

    uid: str
    kind: _Kind
    operation: Literal["CREATE", "UPDATE", "DELETE", "CONNECT"]
    name: str = ""
    namespace: str = ""
    sub_resource: str = ""
    object: dict[str, Any] | None = None
    """The object as it would become; None on DELETE."""
    old_object: dict[str, Any] | None = None
    """The object as it is; None on CREATE."""


class _Review(ApiModel):
    request: AdmissionRequest


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to answer.

    Attributes:
        allowed: whether the request may proceed.
        message: why not, for the person who made the request.
        warnings: what kubectl shows besides, allowed or not.
    """

    allowed: bool
    message: str = ""
    warnings: tuple[str, ...] = ()


Judge = Callable[[AdmissionRequest], Awaitable[Verdict]]


async def answer(body: bytes, judge: Judge) -> bytes:
    """The AdmissionReview that answers the one in `body`, both as JSON; never raises.

    Args:
        body: what the API server posted.
        judge: decides, within the time that the webhook's configuration gives; an error in it denies
            the request.
    """
    try:
        request = _Review.model_validate_json(body).request
    except ValidationError as error:
        first: Any = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the body"
        return _response(
            _uid(body), Verdict(False, f"not an AdmissionReview: {where}: {first['msg']}")
        )
    try:
        verdict = await judge(request)
    except Exception:
        log.exception("admission failed by a bug", kind=request.kind.kind, name=request.name)
        verdict = Verdict(
            False,
            f"the admission webhook failed on this {request.kind.kind}; its log tells why. "
            "This is a bug of the webhook, please report it.",
        )
    return _response(request.uid, verdict)


def _uid(body: bytes) -> str:
    """The request's uid, without which the API server would show its own complaint instead."""
    try:
        return str(from_json(body)["request"]["uid"])
    except (ValueError, KeyError, TypeError):
        return ""


def _response(uid: str, verdict: Verdict) -> bytes:
    response: dict[str, Any] = {"uid": uid, "allowed": verdict.allowed}
    if not verdict.allowed:
        response["status"] = {"code": 403, "reason": "Forbidden", "message": verdict.message}
    if verdict.warnings:
        response["warnings"] = [warning[:WARNING_LENGTH] for warning in verdict.warnings]
    return to_json(
        {
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "response": response,
        }
    )
