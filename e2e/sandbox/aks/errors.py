"""The error bodies of Azure: a catalogue by name, and the exception that carries one to the client.

Invariant: whatever goes wrong in a request ends as one `ArmError`; its body has one of the shapes
that the Azure SDK parses.
"""

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from string import Template
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict

Shape = Literal["flat", "nested", "aad"]


class Entry(BaseModel):
    """One entry of errors.yaml; the file's head explains the fields."""

    model_config = ConfigDict(extra="forbid")

    code: str
    message: str
    shape: Shape
    source: str
    status: int = 400
    number: int = 0
    subcode: str = ""
    details: tuple[str, ...] = ()
    vms: bool = False
    retry_after: int | None = None
    sample: dict[str, str | int] = {}


class UnknownErrorNameError(ValueError):
    """No error of this name is in the catalogue; the text lists the names."""


@dataclass(eq=False)
class ArmError(Exception):
    """An answer other than success.

    `body` is the inner error object (code, message, details, …); `response_body` wraps it.
    """

    status: int
    body: dict[str, Any]
    shape: Shape = "nested"
    retry_after: int | None = None
    vms: bool = False
    headers: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.status} {self.code}: {self.body.get('message', '')}"

    @property
    def code(self) -> str:
        """The code that the client sees."""
        return str(self.body.get("code") or self.body.get("error") or "")

    def response_body(self) -> dict[str, Any]:
        """Returns the JSON body of the HTTP response."""
        return {"error": self.body} if self.shape == "nested" else self.body


@cache
def catalogue() -> dict[str, Entry]:
    """Returns every known error by name."""
    text = Path(__file__).with_name("errors.yaml").read_text(encoding="utf-8")
    return {name: Entry.model_validate(entry) for name, entry in yaml.safe_load(text).items()}


def known_error(name: str, **values: object) -> ArmError:
    """Returns the named error with `${...}` filled in from `values`, then from its sample.

    Raises:
        UnknownErrorNameError: the catalogue has no such name.
    """
    entry = catalogue().get(name)
    if entry is None:
        raise UnknownErrorNameError(
            f"error: no error is called {name!r}; known are {', '.join(sorted(catalogue()))}"
        )
    filled = {**entry.sample, **values}
    message = Template(entry.message).safe_substitute(filled)
    retry_after = filled.get("retry_after", entry.retry_after)
    return ArmError(
        status=entry.status,
        body=_body(entry, message, str(filled.get("target", ""))),
        shape=entry.shape,
        retry_after=None if retry_after is None else int(str(retry_after)),
        vms=entry.vms,
    )


def _body(entry: Entry, message: str, target: str) -> dict[str, Any]:
    if entry.shape == "aad":
        return {
            "error": entry.code,
            "error_description": f"AADSTS{entry.number}: {message}",
            "error_codes": [entry.number],
        }
    if entry.shape == "flat":
        body = {"code": entry.code, "details": None, "message": message, "subcode": entry.subcode}
        return {**body, "target": target} if target else body
    details = [{"code": code, "message": message} for code in entry.details]
    return {
        "code": entry.code,
        "message": message,
        **({"details": details} if details else {}),
        **({"target": target} if target else {}),
    }
