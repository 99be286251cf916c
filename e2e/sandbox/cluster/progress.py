"""Tells a person what is being done, and how long each step took."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Progress:
    """Prints one line per event, with the seconds since the start."""

    def __init__(self, write: Callable[[str], None] | None = None) -> None:
        self._write = write or _print
        self._started = time.monotonic()

    def say(self, text: str) -> None:
        """Prints a line."""
        self._write(f"{time.monotonic() - self._started:6.1f} s  {text}")

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Prints when a step begins, and when it is done how long it took."""
        self.say(f"{name} …")
        started = time.monotonic()
        yield
        self.say(f"{name}: ready in {time.monotonic() - started:.1f} s")


def _print(line: str) -> None:
    print(line, flush=True)
