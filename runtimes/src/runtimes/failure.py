"""The errors that end a runtime's process.

Each has one sentence that a person can act on and an exit code that a controller can tell apart.
"""

from dataclasses import dataclass
from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of every runtime program."""

    DONE = 0
    UNEXPECTED = 1
    SETTINGS = 2
    WEIGHTS = 3  # the server's: what it was to serve cannot be had or used
    DATA = 3  # everyone else's: what was to be worked on cannot be used
    MEMORY = 4
    REGISTRY = 5
    INTERRUPTED = 143  # 128 + SIGTERM, as a shell reports it


@dataclass(eq=False)
class Failure(Exception):
    """The program cannot go on; `message` names the cause and the remedy.

    `reason` is one word in CamelCase where the code alone says too little.
    """

    code: Exit
    message: str
    reason: str = ""

    def __str__(self) -> str:
        return self.message


class StartupFailure(Failure):
    """The program cannot start."""
