"""What the report says of verdicts, and when it passes."""

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from conformance import report
from conformance.behaviours import creation
from conformance.report import Report, explanations
from conformance.suite import (
    BEHAVIOURS,
    BOTH,
    Behaviour,
    Differs,
    NotApplicable,
    NotObserved,
    Outcome,
    Verdict,
    chosen,
    judge,
    order,
)
from conformance.trial import Trial
from sandbox.errors import SandboxError

Why = dict[str, str]


@pytest.fixture
def why(monkeypatch: pytest.MonkeyPatch) -> Why:
    """What is written down about the provisioner; empty until a test fills it."""
    written: Why = {}
    monkeypatch.setattr(report, "explanations", lambda _: written)
    return written


def told(*outcomes: Outcome) -> Report:
    return Report("theirs", BOTH, outcomes, 12.0)


def outcome(number: str, verdict: Verdict = "kept", seen: str = "seen") -> Outcome:
    return Outcome(number, "machine", verdict, seen, 1.0)


@pytest.mark.usefixtures("why")
def test_a_report_passes_when_all_is_kept() -> None:
    made = told(outcome("9"), outcome("11"))
    assert made.passed
    assert made.text().endswith("All are kept.")


def test_a_difference_without_a_sentence_fails_the_report(why: Why) -> None:
    outcomes = outcome("9"), outcome("11", "differs", "two ids")
    assert not told(*outcomes).passed
    assert "Not explained: 11 (Machine), differs: two ids" in told(*outcomes).text()
    why["11"] = "It has ids of its own."
    made = told(*outcomes)
    assert made.passed
    assert "| differs | two ids | It has ids of its own. |" in made.text()


@pytest.mark.parametrize("verdict", ["not applicable", "not observed"])
def test_what_could_not_be_seen_needs_a_sentence_too(why: Why, verdict: Verdict) -> None:
    assert not told(outcome("45", verdict)).passed
    why["45"] = "It serves one API."
    assert told(outcome("45", verdict)).passed


@pytest.mark.usefixtures("why")
def test_what_is_about_aks_needs_none_where_aks_is_not_the_cloud() -> None:
    assert told(outcome("21", "not applicable")).passed
    assert not told(outcome("21", "differs")).passed


def test_a_sentence_without_its_difference_fails_the_report(why: Why) -> None:
    why.update({"9": "It has no labels.", "11": "Not judged this time."})
    made = told(outcome("9"))
    assert not made.passed
    assert made.outdated == ["9"]


def test_a_sentence_may_say_that_its_difference_comes_and_goes(why: Why) -> None:
    why["9"] = "Sometimes: it has no labels when it is busy."
    assert told(outcome("9")).passed
    assert told(outcome("9", "differs")).passed


@pytest.mark.usefixtures("why")
def test_verdicts_that_differ_by_api_are_told_apart() -> None:
    other = Outcome("9", "nodeclaim", "differs", "no label", 1.0)
    assert "Machine: kept<br>NodeClaim: differs" in told(outcome("9"), other).text()


@pytest.mark.usefixtures("why")
def test_a_bar_in_the_evidence_does_not_break_the_table() -> None:
    (row,) = (
        line for line in told(outcome("9", seen="a|b\nc")).text().splitlines() if "a\\|b" in line
    )
    assert row.count(" | ") == 4


def test_every_sentence_that_is_written_down_has_its_behaviour() -> None:
    for path in report.EXPLANATIONS.glob("*.yaml"):
        assert set(explanations(path.stem)) <= set(BEHAVIOURS), path


def test_numbers_are_unique_sorted_and_can_be_chosen() -> None:
    assert creation.GROUP in {item.group for item in BEHAVIOURS.values()}
    assert [item.number for item in chosen(["C1", "10", "9"])] == ["9", "10", "C1"]
    assert len(chosen([])) == len(BEHAVIOURS) == 58
    assert sorted(BEHAVIOURS, key=order)[:3] == ["1", "2", "3"]
    with pytest.raises(SandboxError, match="no behaviour has the number 99"):
        chosen(["99"])


def raising(error: Exception) -> Callable[[Trial], Awaitable[str]]:
    async def check(_: Trial) -> str:
        raise error

    return check


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (Differs("two"), "differs"),
        (NotApplicable("none"), "not applicable"),
        (NotObserved("long"), "not observed"),
        (SandboxError("it died"), "differs"),
    ],
)
async def test_whatever_goes_wrong_is_a_verdict(error: Exception, verdict: str) -> None:
    item = Behaviour("0", "g", "t", raising(error), aks=False, alone=False, kinds=BOTH)
    found = await judge(item, _trial(aks=True))
    assert found.verdict == verdict
    assert str(error) in found.evidence


async def test_what_is_about_aks_is_not_tried_where_aks_is_not_the_cloud() -> None:
    item = Behaviour("0", "g", "t", raising(Differs("tried")), aks=True, alone=False, kinds=BOTH)
    assert (await judge(item, _trial(aks=False))).verdict == "not applicable"


def _trial(*, aks: bool) -> Trial:
    world: Any = SimpleNamespace(provisioner=SimpleNamespace(aks=aks))
    return Trial(cast("Any", world), "machine")
