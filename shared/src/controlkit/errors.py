"""The four kinds of failure a controller knows, and what each asks of the queue.

Invariant: whatever crosses from Kubernetes or a cloud into a controller is one of these; any
other exception is a bug in our own code and is treated as one.
"""

from dataclasses import dataclass


@dataclass(eq=False)
class ControlError(Exception):
    """A failure with a reason for the condition and a sentence for the person.

    Attributes:
        reason: CamelCase word; becomes the condition's reason.
        message: one sentence for the person who wrote the object: what, which value, what to do.
    """

    reason: str
    message: str

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


@dataclass(eq=False)
class Stale(ControlError):
    """Our picture is old (409, 412, an etag mismatch): read again soon, tell nobody."""


@dataclass(eq=False)
class AlreadyExists(Stale):
    """A create met an object of that name."""


@dataclass(eq=False)
class NotFound(Stale):
    """The object, its namespace or its whole kind is not there (404)."""


@dataclass(eq=False)
class Transient(ControlError):
    """The same call may work soon (network, deadline, 429, 5xx).

    Attributes:
        retry_after: seconds the other side asked us to wait, when it said so.
    """

    retry_after: float | None = None


@dataclass(eq=False)
class Blocked(ControlError):
    """Something outside must change first (quota, capacity, a missing role).

    Attributes:
        retry_after: seconds until it is worth looking again.
    """

    retry_after: float = 300.0


@dataclass(eq=False)
class Rejected(ControlError):
    """Only an edit of the object can help (400, 422, an impossible spec)."""
