"""What each Azure failure is taken for, over texts that people really met."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from gpu_provisioner.azure.courses import COURSES, LEGACY_SIZE_SENTENCE
from gpu_provisioner.azure.errors import (
    About,
    AzureError,
    Failure,
    classify,
    own_limit,
    unanswered,
)
from gpu_provisioner.azure.payload import parse

SAMPLES: list[dict[str, Any]] = yaml.safe_load(
    (Path(__file__).parents[1] / "data" / "azure_errors.yaml").read_text()
)
ALL = pytest.mark.parametrize("sample", SAMPLES, ids=[sample["id"] for sample in SAMPLES])

REASONS = {
    "QuotaExceeded",
    "InsufficientCapacity",
    "InstanceTypeUnavailable",
    "InvalidRequest",
    "PoolLimitReached",
    "OperationInProgress",
    "Throttled",
    "AuthorizationFailed",
    "ClusterNotFound",
    "NodeBootstrapFailed",
    "LaunchFailed",
}


def failure_of(sample: dict[str, Any]) -> Failure:
    return classify(sample["where"], sample.get("status"), sample.get("code"), sample["payload"])


@ALL
def test_a_text_people_met_is_told_for_what_it_is(sample: dict[str, Any]) -> None:
    failure = failure_of(sample)
    assert (failure.kind, failure.reason) == (sample["kind"], sample["reason"])


@ALL
def test_the_code_in_the_text_is_found_without_the_sdk(sample: dict[str, Any]) -> None:
    told = classify(sample["where"], sample.get("status"), None, sample["payload"])
    # One text names no code, and nothing but its code tells what it is.
    if sample["id"] != "bootstrap-cse-exit-34-v100":
        assert told.kind == sample["kind"]


@ALL
def test_the_figures_in_a_text_are_read(sample: dict[str, Any]) -> None:
    facts = parse(sample["payload"]).facts
    for name, value in sample.get("facts", {}).items():
        assert getattr(facts, name) == value


@ALL
def test_what_a_person_needs_survives_a_cut_at_256_characters(sample: dict[str, Any]) -> None:
    failure = failure_of(sample)
    course = COURSES[failure.kind]
    assert course.remedy in failure.message[: 256 + 60]
    assert len(failure.message) < 2_500


def test_size_and_region_are_named_even_where_azure_does_not() -> None:
    body = '{"code":"AllocationFailed","message":"Allocation failed."}'
    failure = classify("pool", None, None, body, about=About("Standard_NC6s_v3", "eastus"))
    assert failure.message.startswith("Azure has no free Standard_NC6s_v3 in eastus just now.")


def test_every_reason_is_one_of_the_closed_list() -> None:
    assert {course.reason for course in COURSES.values()} == REASONS


def test_a_size_that_is_not_offered_keeps_both_sentences_that_creators_test_for() -> None:
    sample = next(s for s in SAMPLES if s["id"] == "sku-restricted-long-list")
    message = failure_of(sample).message
    assert LEGACY_SIZE_SENTENCE in message
    assert "is not allowed in your subscription in location" in message


def test_a_spent_quota_names_limit_use_and_need() -> None:
    sample = next(s for s in SAMPLES if s["id"] == "quota-family-ncsv3-gpu-async")
    assert failure_of(sample).message.startswith(
        "The subscription's vCPU quota standardNCSv3Family in westeurope is used up: "
        "limit 6, in use 6, 6 more needed, so the limit must be at least 12. Raise the quota"
    )


@pytest.mark.parametrize(
    ("where", "status", "body", "kind"),
    [
        ("put", 404, "", "no-cluster"),
        ("list", 404, '{"error":{"code":"NotFound","message":"gone"}}', "no-cluster"),
        ("get", 404, '{"error":{"code":"NotFound","message":"Agent Pool not found."}}', "gone"),
        ("delete", 404, "", "gone"),
        (
            "get",
            404,
            '{"error":{"code":"ResourceGroupNotFound","message":"Resource group \'x\' could not be found."}}',
            "no-cluster",
        ),
        ("put", 412, "", "changed"),
        ("put", 409, "", "conflict"),
        ("put", 429, "", "throttled"),
        ("put", 500, "", "transient"),
        ("put", 503, "<html>Service Unavailable</html>", "transient"),
        ("put", 408, "", "transient"),
        ("put", 400, "", "request"),
        ("put", 401, "", "credentials"),
        ("put", 403, "", "forbidden"),
        ("pool", None, "", "transient"),
        ("pool", None, '{"code":"SomethingNew","message":"Never seen."}', "transient"),
        ("token", 500, "the token service is down", "transient"),
        ("token", None, "[Errno 2] No such file or directory: '/token'", "credentials"),
    ],
)
def test_an_answer_without_a_telling_text_goes_by_its_status(
    where: Any, status: int | None, body: str, kind: str
) -> None:
    assert classify(where, status, None, body).kind == kind


def test_a_retry_after_header_outweighs_the_text() -> None:
    body = '{"code":"Throttled","message":"please retry again in 30 seconds"}'
    assert classify("put", 429, None, body).retry_after == 30
    assert classify("put", 429, None, body, retry_after=7.0).retry_after == 7


@pytest.mark.parametrize(
    ("kind", "waits"),
    [
        ("quota", [300, 600, 1200, 1800, 1800]),
        ("capacity", [60, 120, 240, 480, 600]),
        ("transient", [1, 2, 4, 8, 16, 32, 60]),
        ("credentials", [60, 120, 240, 300, 300]),
        ("conflict", [15, 30, 60, 60]),
    ],
)
def test_cool_downs_double_up_to_their_ceiling(kind: Any, waits: list[float]) -> None:
    failure = Failure(kind, "")
    assert [failure.wait(attempt) for attempt in range(1, len(waits) + 1)] == waits


def test_what_azure_asks_is_waited_but_never_less_than_the_kind_of_failure_takes() -> None:
    assert [Failure("throttled", "", 500.0).wait(attempt) for attempt in (1, 2)] == [500, 500]
    assert [Failure("throttled", "", 3.0).wait(attempt) for attempt in (1, 2, 3)] == [10, 20, 40]
    assert Failure("transient", "", 0.0).wait(1) == 1


def test_only_what_an_edit_alone_can_mend_is_final() -> None:
    final = {kind for kind in COURSES if Failure(kind, "").final}
    assert final == {"size", "request", "name-taken"}


def test_a_claim_in_the_line_hears_how_long_it_will_take() -> None:
    failure = own_limit("20 requests at once, then one a minute", 300.0, 4)
    assert failure.reason == "Throttled"
    assert failure.wait(9) == 300.0
    assert "4 before it, expected in about 5 min" in failure.message
    assert "it is next, expected in about 12 s" in own_limit("…", 12.0, 0).message


def test_a_call_without_answer_says_so() -> None:
    error = AzureError(unanswered("put", "Server disconnected"))
    assert str(error) == (
        "LaunchFailed: Azure did not answer (put): Server disconnected. It is tried again."
    )


@pytest.mark.parametrize(
    "text", ["", "{", "null", "\\" * 5_000, "code=" * 2_000, '"message":"' * 500]
)
def test_a_hostile_text_is_taken_apart_without_harm(text: str) -> None:
    assert classify("pool", None, None, text).kind == "transient"
