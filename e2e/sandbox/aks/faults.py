"""Faults that a test asks for: which call they meet, how often, and what happens then.

Invariant: a fault is used up by the calls that it changed and by no other; one that is used up is
kept, so that a test can read its `hits`.
"""

import fnmatch
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, model_validator

from sandbox.aks.document import Document
from sandbox.aks.errors import ArmError, known_error

Verb = Literal[
    "TOKEN",
    "PUT",
    "GET",
    "LIST",
    "DELETE",
    "ABORT",
    "DELETE_MACHINES",
    "UPGRADE",
    "MACHINES",
    "OPERATION",
    "CLUSTER",
    "USAGES",
    "SKUS",
    "OTHER",
    "*",
]
"""A call, as faults and the call log name it; OPERATION covers status and result URLs."""

RequestEffect = Literal["error", "cut", "cut-before", "hang", "delay"]
OperationEffect = Literal[
    "fail", "stuck", "slow", "lost-operation", "never-join", "late-node", "no-gpu", "extra-node"
]
REQUEST_EFFECTS: Final = frozenset({"error", "cut", "cut-before", "hang", "delay"})


class Fault(Document):
    """Something that goes wrong on purpose."""

    effect: RequestEffect | OperationEffect
    """On the request: `error` answers one; `cut` does the work and drops the connection;
    `cut-before` drops it first; `hang` never answers; `delay` waits `seconds` of the wall clock.
    On the operation that the request starts: `fail` ends it with an error, after `seconds` if
    given; `stuck` never ends it; `slow` takes `factor` times as long; `lost-operation` hides its
    status URL; `never-join` makes VMs without Nodes; `late-node` adds `seconds` to the join;
    `no-gpu` hides the GPUs; `extra-node` makes one Node too many."""
    verb: Verb = "PUT"
    pool: str = "*"
    """A shell pattern for the pool's name."""
    count: Annotated[int, Field(ge=1)] | None = 1
    """How many calls it changes; null: all, until it is cleared."""
    skip: Annotated[int, Field(ge=0)] = 0
    """How many matching calls it lets pass first."""
    error: str = ""
    """A name in errors.yaml, for `error` and `fail`."""
    status: Annotated[int, Field(ge=400, le=599)] | None = None
    """HTTP status, instead of the named error's."""
    code: str = ""
    """Code, instead of the named error's."""
    message: str = ""
    """Message, instead of the named error's."""
    retry_after: Annotated[int, Field(ge=0)] | None = None
    """Seconds for a Retry-After header."""
    seconds: Annotated[float, Field(ge=0, le=86_400)] = 0.0
    factor: Annotated[float, Field(gt=0, le=10_000)] = 10.0
    id: str = ""
    """Given by the emulator."""
    hits: int = 0
    """How many calls it has changed."""
    seen: int = 0
    """How many calls it has met, those it let pass included."""

    @model_validator(mode="after")
    def _has_an_error(self) -> Self:
        if self.effect in ("error", "fail"):
            if not self.error and not (self.code and self.message):
                raise ValueError(f"effect {self.effect} needs `error`, or `code` and `message`")
            self.answer()
        return self

    @property
    def spent(self) -> bool:
        """Whether it changes no further call."""
        return self.count is not None and self.hits >= self.count

    def matches(self, verb: str, pool: str) -> bool:
        """Says whether it concerns this call."""
        return self.verb in ("*", verb) and fnmatch.fnmatchcase(pool, self.pool)

    def answer(self, **values: object) -> ArmError:
        """Returns the error of an `error` or `fail` fault.

        Raises:
            UnknownErrorNameError: `error` names none of the catalogue.
        """
        if self.retry_after is not None:  # the text of a throttle says it as well
            values = {**values, "retry_after": self.retry_after}
        error = known_error(self.error, **values) if self.error else ArmError(400, {})
        body: dict[str, Any] = dict(error.body)
        if self.code:
            body["error" if error.shape == "aad" else "code"] = self.code
        if self.message:
            body["error_description" if error.shape == "aad" else "message"] = self.message
        return ArmError(
            status=self.status or error.status,
            body=body,
            shape=error.shape,
            retry_after=error.retry_after if self.retry_after is None else self.retry_after,
            vms=error.vms,
        )


class Faults:
    """All faults, in the order in which they were asked for."""

    def __init__(self, faults: dict[str, Fault]) -> None:
        self._faults = faults

    def all(self) -> list[Fault]:
        """Returns every fault, spent ones included."""
        return list(self._faults.values())

    def add(self, fault: Fault) -> Fault:
        """Takes a fault in, and numbers it."""
        number = max((int(known[1:]) for known in self._faults), default=0) + 1
        numbered = fault.model_copy(update={"id": f"f{number:04}", "hits": 0, "seen": 0})
        self._faults[numbered.id] = numbered
        return numbered

    def remove(self, fault_id: str) -> bool:
        """Forgets a fault; False when there is none of that id."""
        return self._faults.pop(fault_id, None) is not None

    def clear(self) -> list[str]:
        """Forgets all; returns their ids."""
        ids = list(self._faults)
        self._faults.clear()
        return ids

    def strike(self, verb: str, pool: str, *, request: bool) -> list[Fault]:
        """Returns the faults that change this call, each counted as used once.

        Of those that act on a request the first one alone is used; those that act on an
        operation add up.
        """
        struck: list[Fault] = []
        for fault in self._faults.values():
            concerned = (fault.effect in REQUEST_EFFECTS) == request
            if not concerned or fault.spent or not fault.matches(verb, pool):
                continue
            fault.seen += 1
            if fault.seen <= fault.skip:
                continue
            fault.hits += 1
            struck.append(fault)
            if request:
                break
        return struck
