"""Image references: `[HOST[:PORT]/]NAME[:TAG][@DIGEST]`, made canonical.

Two references are equal exactly if they name the same image at the same registry.
"""

import re
from dataclasses import dataclass
from typing import Self

from runtimes.failure import Exit, Failure

DOCKER_HUB = "docker.io"
# The names under which Docker Hub has been known, in secrets to this day.
DOCKER_HUB_NAMES = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})

_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::\d{1,5})?")
_NAME = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_FORM = "expected HOST[:PORT]/NAME[:TAG] or HOST[:PORT]/NAME@sha256:DIGEST"


@dataclass(frozen=True)
class Reference:
    """One image at one registry; `digest` is empty or wins over `tag`."""

    host: str
    name: str
    tag: str = "latest"
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a reference as people write it; `Failure` says which part is wrong."""
        rest = text.removeprefix("docker://")
        rest, _, digest = rest.partition("@")
        if digest and not _DIGEST.fullmatch(digest):
            raise _wrong(text, f"{digest!r} is no digest")
        rest, tag = _split_tag(rest)
        if not _TAG.fullmatch(tag):
            raise _wrong(text, f"{tag!r} is no tag")
        host, name = _split_host(rest)
        if not _HOST.fullmatch(host):
            raise _wrong(text, f"{host!r} is no host")
        for part in name.split("/"):
            if not _NAME.fullmatch(part):
                raise _wrong(text, f"{part!r} is no part of an image's name, which is lower case")
        return cls(host, name, tag, digest)

    @property
    def repository(self) -> str:
        """Host and name, as in `registry.example.com/team/adapter`."""
        return f"{self.host}/{self.name}"

    def at(self, digest: str) -> str:
        """The reference that can never mean another image."""
        return f"{self.repository}@{digest}"

    def __str__(self) -> str:
        return self.at(self.digest) if self.digest else f"{self.repository}:{self.tag}"


def _split_tag(text: str) -> tuple[str, str]:
    before, colon, after = text.rpartition(":")
    if not colon or "/" in after:
        return text, "latest"  # no colon, or the one before a port
    return before, after


def _split_host(text: str) -> tuple[str, str]:
    first, slash, name = text.partition("/")
    if slash and (first == "localhost" or any(mark in first for mark in ".:[")):
        host = DOCKER_HUB if first in DOCKER_HUB_NAMES else first
    else:
        host, name = DOCKER_HUB, text
    if host == DOCKER_HUB and name and "/" not in name:
        name = f"library/{name}"
    return host, name


def _wrong(text: str, why: str) -> Failure:
    return Failure(Exit.SETTINGS, f"{text!r} is not an image reference: {why}; {_FORM}")
