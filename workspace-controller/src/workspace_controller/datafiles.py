"""Reads the YAML files that ship inside the package.

Invariant: only our own files, by package and name; libyaml parses them in a few milliseconds, so
reading one at start is never worth avoiding.
"""

from importlib.resources import files
from typing import Any

import yaml


def read(package: str, name: str) -> Any:
    """The content of a YAML file of a package, as plain values."""
    text = files(package).joinpath(name).read_text(encoding="utf-8")
    return yaml.load(text, Loader=yaml.CSafeLoader)
