"""Texts that end an answer and are not part of it.

What is shown of a growing answer is always the beginning of what the whole answer will be.
"""

from collections.abc import Sequence


class StopText:
    """Shows a growing answer up to the first of its stops, and never a part of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._text = ""
        self._shown = 0

    def push(self, text: str) -> str:
        """What can be shown now that `text` has arrived."""
        self._text += text
        return self._show(len(cut(self._text, self._stops)) - self._may_be_stop())

    def finish(self, whole: str) -> str:
        """What is left to show of the whole answer."""
        self._text = whole
        return self._show(len(cut(whole, self._stops)))

    def _show(self, end: int) -> str:
        shown = self._text[self._shown : end]
        self._shown = max(self._shown, end)
        return shown

    def _may_be_stop(self) -> int:
        """Characters at the end that begin a stop; 0 once a whole one is there."""
        if any(stop in self._text for stop in self._stops):
            return 0
        longest = 0
        for stop in self._stops:
            for length in range(min(len(stop) - 1, len(self._text)), longest, -1):
                if self._text.endswith(stop[:length]):
                    longest = length
                    break
        return longest


def cut(text: str, stops: Sequence[str]) -> str:
    """The text before the first stop that occurs in it."""
    places = [text.index(stop) for stop in stops if stop in text]
    return text[: min(places)] if places else text
