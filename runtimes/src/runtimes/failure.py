"""The errors that end a runtime's process before it can serve.

Each has one sentence that a person can act on and an exit code that a controller can tell apart.
"""

from dataclasses import dataclass
from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of every runtime program."""

    DONE = 0
    UNEXPECTED = 1
    SETTINGS = 2
    WEIGHTS = 3
    MEMORY = 4


@dataclass(eq=False)
class StartupFailure(Exception):
    """The program cannot start; `message` names the cause and the remedy."""

    code: Exit
    message: str

    def __str__(self) -> str:
        return self.message
