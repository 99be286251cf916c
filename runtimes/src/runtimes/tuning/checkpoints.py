"""Which checkpoint a training may go on from.

Only one that was written to its end, for the same training: our note, which lists its files, is written last.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import structlog

from runtimes.tuning import durable

NOTE = "complete.json"
PREFIX = "checkpoint-"

log = structlog.get_logger(__name__)


def seal(checkpoint: Path, identity: str) -> None:
    """Note that a checkpoint is whole, and which training it belongs to."""
    files = {path.name: path.stat().st_size for path in checkpoint.iterdir() if path.is_file()}
    for name in files:
        durable.sync(checkpoint / name)
    durable.write_json(checkpoint / NOTE, {"identity": identity, "files": files})


def newest(output: Path, identity: str) -> Path | None:
    """The newest checkpoint that is whole and belongs to this training."""
    for checkpoint in _by_age(output):
        problem = _problem(checkpoint, identity)
        if problem is None:
            return checkpoint
        log.warning("a checkpoint is not used", checkpoint=checkpoint.name, reason=problem)
    return None


def _by_age(output: Path) -> Iterator[Path]:
    found = [path for path in output.glob(f"{PREFIX}*") if path.name[len(PREFIX) :].isdigit()]
    yield from sorted(found, key=lambda path: int(path.name[len(PREFIX) :]), reverse=True)


def _problem(checkpoint: Path, identity: str) -> str | None:
    try:
        note = json.loads((checkpoint / NOTE).read_bytes())
        whole = all(
            (checkpoint / name).stat().st_size == size for name, size in note["files"].items()
        )
        if note["identity"] != identity:
            return "it belongs to another training: other data, config or model"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "it was not written to its end"
    return None if whole else "it is damaged"
