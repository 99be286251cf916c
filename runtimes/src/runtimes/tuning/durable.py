"""Write files that are there whole after a crash of the process or of the machine, or not at all."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any


def write_json(file: Path, content: Any) -> None:
    """Replace `file`, durably."""
    new = file.with_name(f".{file.name}.new")
    new.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    place(new, file)


def place(written: Path, file: Path) -> None:
    """Move a finished file to its place, durably."""
    sync(written)
    written.replace(file)
    sync(file.parent)


def sync(path: Path) -> None:
    """Wait until the disk holds what was written to a file, or a folder's list of names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(file: Path) -> str:
    """The file's SHA-256, in hex."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
