"""A rule, and a breach of it: the sentence a person reads, and what an update is compared by.

Invariant: a sentence begins with the field's path and names the value; two breaches are the same
when the rule, the kind of field and the offending part are, wherever in a list that part stands.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from workspace_controller.nearest import nearest


@dataclass(frozen=True)
class Finding:
    """One breach of a rule.

    Attributes:
        rule: the rule's name.
        field: the path of the field, such as `inference.adapters[2].source.name`.
        said: the rest of the sentence.
        part: the offending part, as text; what an update leaves as it was is not held against it.
    """

    rule: str
    field: str
    said: str
    part: str = ""

    def __str__(self) -> str:
        return f"{self.field} {self.said}"

    @property
    def breach(self) -> tuple[str, str, str]:
        """What makes this breach the same as one before an update."""
        return self.rule, re.sub(r"\[\d+\]", "[]", self.field), self.part


@dataclass(frozen=True)
class Rule:
    """A rule by its name in the documentation.

    Attributes:
        name: such as `preset-known`.
        says: the rule itself, a sentence.
        warns: a breach is told, but not refused.
        server: the API server keeps it too, by the CRD's own rules.
    """

    name: str
    says: str
    warns: bool = False
    server: bool = False

    def broken(self, field: str, said: str, part: Any = "") -> Finding:
        """A breach of the rule."""
        return Finding(self.name, field, said, part if isinstance(part, str) else repr(part))


def exactly_one(given: Mapping[str, bool]) -> tuple[list[str], str]:
    """The kinds that are given, and what to say unless that is one; "" when it is."""
    chosen = [kind for kind, there in given.items() if there]
    if len(chosen) == 1:
        return chosen, ""
    return chosen, f"takes exactly one of {', '.join(given)}; given: {', '.join(chosen) or 'none'}"


def meant(typed: str, names: Iterable[str]) -> str:
    """The question whether another name was meant, with a space before it; "" when none is near."""
    found = nearest(typed, names)
    return f" Did you mean {found}?" if found and found != typed else ""
