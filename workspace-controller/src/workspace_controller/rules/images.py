"""Image references, as container engines read them: `[HOST[:PORT]/]PATH[:TAG][@DIGEST]`.

Invariant: it reads the text and nothing else; whether an image exists is for the registry to say.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from workspace_controller.reading import shown
from workspace_controller.rules.finding import Finding, Rule

IMAGE = Rule("image-reference", "An image is a reference with a tag, a digest, or neither.")
TARGET = Rule("image-target", "The image to push to is named by tag, for its digest is the result.")

_COMPONENT: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_LABEL: Final = r"[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?"
_HOST: Final = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]{{1,5}})?"
_REFERENCE: Final = re.compile(
    rf"(?P<name>(?:(?P<host>{_HOST})/)?{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][-A-Za-z0-9_.]{0,127}))?"
    r"(?:@(?P<digest>[A-Za-z][A-Za-z0-9]*(?:[-+._][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}))?"
)
_SHA256: Final = re.compile(r"sha256:[0-9a-f]{64}")
MOST_NAME: Final = 255


@dataclass(frozen=True)
class Reference:
    """An image reference, read."""

    name: str
    tag: str | None
    digest: str | None


def reference(text: str) -> Reference | None:
    """The reference, or None when the text is none."""
    found = _REFERENCE.fullmatch(text)
    if found is None or len(found["name"]) > MOST_NAME:
        return None
    digest = found["digest"]
    if digest is not None and digest.startswith("sha256:") and not _SHA256.fullmatch(digest):
        return None
    return Reference(found["name"], found["tag"], digest)


def image_findings(field: str, text: str) -> Iterator[Finding]:
    """What is wrong with a reference to pull."""
    if reference(text) is None:
        yield IMAGE.broken(field, f"{shown(text)} is no image reference: {_hint(text)}", text)


def target_findings(field: str, text: str) -> Iterator[Finding]:
    """What is wrong with a reference to push to."""
    yield from image_findings(field, text)
    read = reference(text)
    if read is not None and read.digest is not None:
        yield TARGET.broken(
            field,
            f"{shown(text)} names a digest, which only the pushed image will have: name a tag, "
            "such as registry.example.com/adapters/mine:v1",
            text,
        )


def _hint(text: str) -> str:
    if not text:
        return "it is empty; write one such as registry.example.com/models/mine:v1"
    if "://" in text:
        return f"leave out {text.partition('://')[0]}://"
    if text != text.strip() or " " in text:
        return "it holds a space"
    name = text.partition("@")[0]
    path = name.rpartition(":")[0] or name
    if reference(text.lower()) is not None and path.lower() != path:
        return "its path must be in lower case"
    if "@" in text:
        return "a digest is written @sha256: and 64 characters of 0-9 and a-f"
    return "write one such as registry.example.com/models/mine:v1"
