"""Takes a provisioner's text apart: what a person needs, and the cloud's own words, shortened.

Invariant: every text gives a gist that is short enough for a condition that only sums up, and no
part grows with what the cloud chose to list.
"""

import re
from dataclasses import dataclass
from typing import Final

from workspace_controller.claims.causes import LEGACY_SIZE_SENTENCE

GIST_LIMIT: Final = 400
WORDS_LIMIT: Final = 300
BRIEF_LIMIT: Final = 250
"""Characters that a condition which sums up repeats of another."""
LISTED: Final = 3
"""How many items of a long list are kept."""

_QUOTE: Final = " Azure: "
"""Where our provisioner's own sentences end and Azure's begin."""
_NEXT_TRY: Final = re.compile(r"\s*(Next try after [^.]*\.)")
_LIST: Final = re.compile(r"(?:[\w.-]+,\s?){6,}[\w.-]+")
_SENTENCE: Final = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9])")


@dataclass(frozen=True)
class Told:
    """A provisioner's text in parts, each a sentence or more, or ""."""

    gist: str
    """What happened, with figures, and what to do."""
    words: str
    """What the cloud said."""
    next_try: str
    """When the provisioner tries again."""

    @property
    def headline(self) -> str:
        """The first sentence of the gist."""
        return _SENTENCE.split(self.gist, maxsplit=1)[0]


def told(text: str) -> Told:
    """The parts of what a claim's condition says."""
    found = _NEXT_TRY.search(text)
    next_try = found.group(1) if found else ""
    text = _NEXT_TRY.sub("", text).strip()
    gist, _, words = text.partition(_QUOTE)
    if not words:
        gist, words = _split(text)
    gist = gist.removeprefix(f"{LEGACY_SIZE_SENTENCE}: ")
    return Told(_cut(_abridged(gist), GIST_LIMIT), _cut(_abridged(words), WORDS_LIMIT), next_try)


def brief(text: str, limit: int, source: str) -> str:
    """A text for a condition that sums up: its first sentences, and where the rest is."""
    if len(text) <= limit:
        return text
    kept, _ = _split(_abridged(text), limit)
    return f"{_cut(kept, limit)} More in {source}."


def _split(text: str, limit: int = GIST_LIMIT) -> tuple[str, str]:
    """As many whole sentences as fit, at least one; and the rest."""
    kept = ""
    sentences = _SENTENCE.split(text)
    for number, sentence in enumerate(sentences):
        longer = f"{kept} {sentence}".strip()
        if kept and len(longer) > limit:
            return kept, " ".join(sentences[number:])
        kept = longer
    return kept, ""


def _abridged(text: str) -> str:
    """The text with its long lists cut short."""

    def shortened(found: re.Match[str]) -> str:
        items = [item.strip() for item in found.group().split(",")]
        return f"{', '.join(items[:LISTED])} and {len(items) - LISTED} more"

    return _LIST.sub(shortened, text)


def _cut(text: str, limit: int) -> str:
    """The text, cut at a word if it is too long."""
    if len(text) <= limit:
        return text
    return text[:limit].rsplit(" ", 1)[0] + " …"
