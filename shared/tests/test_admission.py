"""What is answered to the API server, whatever it sends."""

import json
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from structlog.testing import capture_logs

from controlkit.admission import AdmissionRequest, Judge, Verdict, answer
from controlkit.admission_routes import MOST_BYTES, admission_routes


def review(**changes: Any) -> bytes:
    request = {
        "uid": "u-1",
        "kind": {"group": "kaito.sh", "version": "v1alpha1", "kind": "Workspace"},
        "operation": "UPDATE",
        "name": "phi",
        "namespace": "ns",
        "subResource": "",
        "object": {"spec": 2},
        "oldObject": {"spec": 1},
        "unknown": "field",
    } | changes
    return json.dumps({"kind": "AdmissionReview", "request": request}).encode()


def judging(verdict: Verdict) -> Judge:
    async def judge(_: AdmissionRequest) -> Verdict:
        return verdict

    return judge


async def response(body: bytes, verdict: Verdict | None = None) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(await answer(body, judging(verdict or Verdict(True))))
    assert said["apiVersion"] == "admission.k8s.io/v1"
    assert said["kind"] == "AdmissionReview"
    found: dict[str, Any] = said["response"]
    return found


async def test_the_judge_sees_the_request() -> None:
    seen: list[AdmissionRequest] = []

    async def judge(request: AdmissionRequest) -> Verdict:
        seen.append(request)
        return Verdict(True)

    await answer(review(), judge)
    [request] = seen
    assert (request.operation, request.namespace, request.name) == ("UPDATE", "ns", "phi")
    assert (request.object, request.old_object) == ({"spec": 2}, {"spec": 1})


async def test_a_request_is_allowed_with_warnings() -> None:
    said = await response(review(), Verdict(True, warnings=("old field", "x" * 1000)))
    assert said == {"uid": "u-1", "allowed": True, "warnings": ["old field", "x" * 256]}


async def test_a_request_is_denied_with_the_message_a_person_sees() -> None:
    said = await response(review(), Verdict(False, "count must be positive, got 0"))
    assert said["allowed"] is False
    assert said["status"]["message"] == "count must be positive, got 0"


async def test_on_delete_there_is_no_object() -> None:
    assert (await response(review(operation="DELETE", object=None)))["allowed"] is True


@pytest.mark.parametrize(
    ("body", "says"),
    [
        pytest.param(b"", "the body: Invalid JSON", id="empty"),
        pytest.param(b"{\xff", "the body: Invalid JSON", id="no-json"),
        pytest.param(b"[]", "the body: Input should be an object", id="no-object"),
        pytest.param(b"{}", "request: Field required", id="no-request"),
    ],
)
async def test_what_is_no_review_is_denied_with_the_reason(body: bytes, says: str) -> None:
    said = await response(body)
    assert said["allowed"] is False
    assert says in said["status"]["message"]


async def test_a_review_of_an_unknown_form_is_denied_under_its_uid() -> None:
    said = await response(review(operation="DREAM"))
    assert (said["uid"], said["allowed"]) == ("u-1", False)
    assert "request.operation" in said["status"]["message"]


async def test_a_bug_in_the_judge_denies_and_is_logged() -> None:
    async def judge(_: AdmissionRequest) -> Verdict:
        raise ZeroDivisionError

    with capture_logs() as logs:
        said = json.loads(await answer(review(), judge))["response"]
    assert said["allowed"] is False
    assert "bug of the webhook" in said["status"]["message"]
    assert logs[0]["exc_info"]


async def test_over_http_the_answer_is_always_a_verdict() -> None:
    routes = admission_routes({"/validate/x": judging(Verdict(False, "no"))})
    transport = httpx.ASGITransport(Starlette(routes=routes))
    async with httpx.AsyncClient(transport=transport, base_url="http://webhook") as http:
        denied = await http.post("/validate/x", content=review())
        garbled = await http.post("/validate/x", content=b"nonsense")
        large = await http.post("/validate/x", content=b"x" * (MOST_BYTES + 1))
        read = await http.get("/validate/x")
    assert denied.json()["response"]["status"]["message"] == "no"
    assert (garbled.status_code, garbled.json()["response"]["allowed"]) == (200, False)
    assert (large.status_code, read.status_code) == (413, 405)


async def test_the_routes_fit_into_fastapi() -> None:
    fastapi = pytest.importorskip("fastapi")
    app = fastapi.FastAPI(routes=admission_routes({"/v": judging(Verdict(True))}))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://webhook"
    ) as http:
        assert (await http.post("/v", content=review())).json()["response"]["allowed"] is True
