"""Manifests held by files: `make golden` rewrites the files, and a person reads the difference."""

import os
from pathlib import Path
from typing import Any

import yaml


class Plain(yaml.SafeDumper):
    """Writes what is used twice twice, as the API server gets it."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def as_text(manifest: Any, path: Path) -> str:
    """The manifest as its golden file shall have it; the file is rewritten if that was asked for."""
    text = yaml.dump(manifest, Dumper=Plain, sort_keys=False, width=100)
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    return text
