"""Which checkpoint a training may go on from.

Only one that was written to its end, for the same training: our note, which lists its files, is written last.
"""

import json
import shutil
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
    usable = [path for path in _all(output) if _problem(path, identity) is None]
    return max(usable, key=_step, default=None)


def remove_unusable(output: Path, identity: str) -> None:
    """Remove the others: the trainer keeps the highest numbers, and would drop ours for them."""
    for checkpoint in _all(output):
        if problem := _problem(checkpoint, identity):
            log.warning("a checkpoint is removed", checkpoint=checkpoint.name, reason=problem)
            shutil.rmtree(checkpoint)


def _all(output: Path) -> list[Path]:
    return [path for path in output.glob(f"{PREFIX}*") if path.name[len(PREFIX) :].isdigit()]


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name[len(PREFIX) :])


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
