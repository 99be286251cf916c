"""Says what an Azure failure means: a pure function from (where, status, code, body) to a Failure.

Invariant: every input gets exactly one kind and a message whose first sentences, what happened and
what to do, survive any cut; Azure's own words follow.
"""

from dataclasses import dataclass
from typing import Final

from controlkit.errors import ControlError
from gpu_provisioner.azure.courses import COURSES, Kind
from gpu_provisioner.azure.payload import Facts, Payload, parse
from gpu_provisioner.azure.rules import Where, kind_of

_MOST_TEXT: Final = 1_500
_CONTAINERS: Final = frozenset({"unspecified", "failedprecondition"})


@dataclass(frozen=True, slots=True)
class Failure:
    """What an Azure failure means for a claim.

    Attributes:
        kind: what kind of failure it is.
        message: what happened, with figures; what to do; then Azure's own words.
        retry_after: seconds that Azure asked us to wait, if it did.
    """

    kind: Kind
    message: str
    retry_after: float | None = None

    @property
    def reason(self) -> str:
        """The condition's reason, from a closed list."""
        return COURSES[self.kind].reason

    @property
    def final(self) -> bool:
        """No further try until the claim is edited or replaced."""
        return COURSES[self.kind].final

    def wait(self, attempt: int) -> float:
        """Seconds to wait after the `attempt`-th failure of this kind in a row, counted from 1."""
        course = COURSES[self.kind]
        doubled = min(course.most, course.first * 2.0 ** min(attempt - 1, 20))
        return max(doubled, self.retry_after or 0.0)


class AzureError(ControlError):
    """An Azure call that failed; `failure` says what that means."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason, failure.message)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class About:
    """What a call was about, for texts that do not say it.

    Attributes:
        size: the VM size; "" when it is not known.
        region: the Azure region; "" when it is not known.
    """

    size: str = ""
    region: str = ""


NOTHING_KNOWN: Final = About()


def classify(
    where: Where,
    status: int | None,
    code: str | None,
    body: str,
    *,
    retry_after: float | None = None,
    about: About = NOTHING_KNOWN,
) -> Failure:
    """Says what a failure means.

    Args:
        where: the call that failed.
        status: HTTP status; None when there was no answer, or when a pool's own error is read.
        code: the error code that the SDK found, if it found one.
        body: the answer's text, as it came.
        retry_after: seconds from the Retry-After header.
        about: what the call was about.
    """
    payload = parse(body)
    codes = {found.lower() for found in (*payload.codes, *([code] if code else []))}
    kind = kind_of(where, status, payload, codes)
    asked = retry_after if retry_after is not None else payload.facts.retry_after
    return Failure(kind, _message(kind, payload, code, about), asked)


def unanswered(where: Where, detail: str) -> Failure:
    """The failure of a call that got no answer, so that nobody knows whether it was carried out."""
    return Failure("transient", f"Azure did not answer ({where}): {detail}. It is tried again.")


def own_limit(rule: str, wait: float, ahead: int) -> Failure:
    """The failure of a call that we hold back ourselves, so as not to be throttled by AKS.

    Args:
        rule: AKS's limit, in words.
        wait: seconds until there is a turn.
        ahead: how many others waited longer.
    """
    queue = f"{ahead} before it" if ahead else "it is next"
    return Failure(
        "queued",
        f"Waiting for a turn: AKS takes {rule}; {queue}, expected in about {_span(wait)}.",
        wait,
    )


def _span(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{max(seconds, 1):.0f} s"


def _message(kind: Kind, payload: Payload, code: str | None, about: About) -> str:
    text = payload.message
    if len(text) > _MOST_TEXT:
        text = text[: _MOST_TEXT - 1] + "…"
    quoted = ": ".join(part for part in (_telling(payload) or code, text) if part)
    facts = payload.facts
    region = facts.region or about.region
    summary = COURSES[kind].summary.format(
        quota=_quota(facts),
        figures=_figures(facts),
        size=facts.sku or about.size or "machine of this size",
        at=f" in {region}" if region else "",
    )
    return f"{summary} {COURSES[kind].remedy} Azure: {quoted or 'no explanation'}"


def _telling(payload: Payload) -> str:
    """The innermost code that names a cause rather than a container."""
    named = [
        code for code in payload.codes if code.lower() not in _CONTAINERS and not code.islower()
    ]
    return named[-1] if named else ""


def _quota(facts: Facts) -> str:
    if not facts.family:
        return "regional vCPU quota"
    if facts.family.lower().startswith("lowpriority"):
        return "spot vCPU quota (LowPriorityCores)"
    return f"vCPU quota {facts.family}"


def _figures(facts: Facts) -> str:
    if facts.limit is not None:
        return (
            f": limit {facts.limit}, in use {facts.used}, {facts.needed} more needed, "
            f"so the limit must be at least {facts.new_limit}"
        )
    if facts.remaining is not None:
        return f": {facts.remaining} left, {facts.needed} needed"
    return ""
