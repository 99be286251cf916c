"""The behaviours, by what they are about; importing this enters all of them into the list."""

from conformance.behaviours import (
    choice,
    collection,
    contract,
    creation,
    errors,
    readiness,
    registration,
    running,
    termination,
    timeouts,
)

__all__ = [
    "choice",
    "collection",
    "contract",
    "creation",
    "errors",
    "readiness",
    "registration",
    "running",
    "termination",
    "timeouts",
]
