"""The behaviours by number, and how one is judged.

Invariant: every behaviour of the list has exactly one verdict for each claim API in the end; one
that could not be brought about is never taken for kept.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from controlkit.errors import ControlError
from sandbox.aks.client import ControlApiError
from sandbox.errors import SandboxError

if TYPE_CHECKING:
    from conformance.trial import Trial

Kind = Literal["machine", "nodeclaim"]
Verdict = Literal["kept", "differs", "not applicable", "not observed"]
Check = Callable[["Trial"], Awaitable[str]]

BOTH: Final[tuple[Kind, ...]] = ("machine", "nodeclaim")
LONGEST_SECONDS: Final = 180.0
"""A behaviour that takes longer hangs."""


class Differs(Exception):
    """The provisioner did something else; the text is what was seen."""


class NotApplicable(Exception):
    """The behaviour speaks of something that this provisioner has not; the text says of what."""


class NotObserved(Exception):
    """It would take longer than anybody waits; the text says what was not waited for."""


@dataclass(frozen=True)
class Behaviour:
    """One promise that a provisioner makes.

    Attributes:
        number: stays the same for ever; those of the contract begin with C.
        group: what it is about.
        title: the promise in one sentence.
        check: brings it about and returns what was seen.
        aks: it is about how AKS is asked.
        alone: it disturbs the others, such as by ending the provisioner.
        kinds: the claim APIs that know it.
    """

    number: str
    group: str
    title: str
    check: Check
    aks: bool
    alone: bool
    kinds: tuple[Kind, ...]


BEHAVIOURS: Final[dict[str, Behaviour]] = {}


def behaviour(
    number: str,
    group: str,
    title: str,
    *,
    aks: bool = False,
    alone: bool = False,
    kinds: tuple[Kind, ...] = BOTH,
) -> Callable[[Check], Check]:
    """Enters a check into the list."""

    def enter(check: Check) -> Check:
        assert number not in BEHAVIOURS, f"behaviour {number} is there twice"
        BEHAVIOURS[number] = Behaviour(number, group, title, check, aks, alone, kinds)
        return check

    return enter


@dataclass(frozen=True)
class Outcome:
    """What one behaviour came to, with claims of one API."""

    number: str
    kind: Kind
    verdict: Verdict
    evidence: str
    seconds: float


async def judge(item: Behaviour, trial: "Trial") -> Outcome:
    """Brings one behaviour about; whatever goes wrong on the way is a verdict, too."""
    clock = asyncio.get_running_loop()
    began = clock.time()
    verdict: Verdict = "kept"
    try:
        async with asyncio.timeout(LONGEST_SECONDS):
            evidence = await _brought_about(item, trial)
    except NotApplicable as reason:
        verdict, evidence = "not applicable", str(reason)
    except NotObserved as reason:
        verdict, evidence = "not observed", str(reason)
    except Differs as difference:
        verdict, evidence = "differs", str(difference)
    except TimeoutError:
        verdict, evidence = "differs", f"it did not end within {LONGEST_SECONDS:g} s"
    except (ControlError, ControlApiError, SandboxError, OSError) as error:
        verdict, evidence = "differs", f"{type(error).__name__}: {error}"
    return Outcome(item.number, trial.kind, verdict, evidence, clock.time() - began)


async def _brought_about(item: Behaviour, trial: "Trial") -> str:
    if item.aks and not trial.world.provisioner.aks:
        raise NotApplicable("it does not ask the emulated AKS for machines")
    return await item.check(trial)


def order(number: str) -> tuple[str, int]:
    """Sorts numbers as people do: those of the contract behind the others."""
    letters = number.rstrip("0123456789")
    return letters, int(number.removeprefix(letters))


def chosen(only: Iterable[str]) -> list[Behaviour]:
    """Returns the behaviours with these numbers, all if there are none given.

    Raises:
        SandboxError: a number is unknown.
    """
    wanted = list(only)
    if unknown := [number for number in wanted if number not in BEHAVIOURS]:
        known = ", ".join(sorted(BEHAVIOURS, key=order))
        raise SandboxError(f"--only: no behaviour has the number {unknown[0]}; there are {known}")
    return [BEHAVIOURS[number] for number in sorted(wanted or BEHAVIOURS, key=order)]
