"""Events that tests look at instead of an API server's."""

from typing import Any

from controlkit.events import EventRecorder
from controlkit_testing.api import MemoryApi


class KeptEvents(EventRecorder):
    """Keeps what is recorded, in order: (type, reason, message)."""

    def __init__(self, api: MemoryApi) -> None:
        super().__init__(api.client(), component="test")
        self.said: list[tuple[str, str, str]] = []

    @property
    def reasons(self) -> list[tuple[str, str]]:
        """The same without the messages."""
        return [(type_, reason) for type_, reason, _ in self.said]

    def event(self, about: Any, type: Any, reason: str, message: str) -> None:  # noqa: A002
        """Keeps one."""
        del about
        self.said.append((type, reason, message))
