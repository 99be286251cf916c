"""Names of other objects that a Workspace refers to.

Invariant: a name that no object could have is refused; whether the object exists is not asked, for
it may come later.
"""

import re
from collections.abc import Iterator
from typing import Final

from workspace_controller.reading import shown
from workspace_controller.rules.finding import Finding, Rule

NAME = Rule("object-name", "A Secret, ConfigMap or Workspace is named as Kubernetes names objects.")

_PART: Final = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_NAME: Final = re.compile(rf"{_PART}(\.{_PART})*")
MOST: Final = 253


def name_findings(field: str, name: str) -> Iterator[Finding]:
    """What is wrong with the name of another object."""
    if len(name) > MOST or _NAME.fullmatch(name) is None:
        yield NAME.broken(
            field,
            f"{shown(name)} cannot name an object: use at most {MOST} characters of a-z, 0-9, - "
            "and ., beginning and ending with a letter or digit",
            name,
        )
