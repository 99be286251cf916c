"""The folder's result: adapter, report and, last of all, the sentinel.

Whoever sees the sentinel sees a whole adapter, and the report's hashes say whether it is still the one that was
written.
"""

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtimes.tuning import durable

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
REPORT = "tuning_report.json"
SENTINEL = "fine_tuning_completed.txt"


def files(output: Path) -> dict[str, Path]:
    """What the adapter's image holds."""
    return {name: output / name for name in (CONFIG, WEIGHTS, REPORT)}


def begin(output: Path) -> None:
    """Forget an earlier result: from here on the folder holds none. OSError if it cannot be used."""
    output.mkdir(parents=True, exist_ok=True)
    for name in (SENTINEL, REPORT):
        (output / name).unlink(missing_ok=True)
    durable.sync(output)


def finish(saved: Path, output: Path, base_model_name: str, report: Mapping[str, Any]) -> None:
    """Move an adapter that was saved in the folder `saved` to its place, and say that it is done.

    `saved` lies on the same disk as `output`, and is removed.
    """
    config = json.loads((saved / CONFIG).read_bytes())
    durable.write_json(saved / CONFIG, _told(config, base_model_name))
    for name in (WEIGHTS, CONFIG):
        (saved / name).chmod(0o644)
        durable.place(saved / name, output / name)
    shutil.rmtree(saved)
    hashes = {name: durable.sha256(output / name) for name in (CONFIG, WEIGHTS)}
    durable.write_json(output / REPORT, {**report, "files": hashes})
    done = output / f".{SENTINEL}.new"
    done.write_text(time.strftime("Fine-Tuning completed at %Y-%m-%d-%H-%M-%S\n", time.gmtime()))
    durable.place(done, output / SENTINEL)


def _told(config: dict[str, Any], base_model_name: str) -> dict[str, Any]:
    """The adapter's config with the model's name in place of a path, and sets in a fixed order."""
    ordered = {
        name: sorted(value)
        if name in {"target_modules", "exclude_modules", "modules_to_save"}
        and isinstance(value, list)
        else value
        for name, value in config.items()
    }
    return {**ordered, "base_model_name_or_path": base_model_name, "inference_mode": True}


def finished(output: Path, identity: str) -> dict[str, Any] | None:
    """The report of a result of this very training, if there is one and it is unharmed."""
    try:
        if not (output / SENTINEL).exists():
            return None
        report: dict[str, Any] = json.loads((output / REPORT).read_bytes())
        unharmed = all(
            durable.sha256(output / name) == report["files"][name] for name in (CONFIG, WEIGHTS)
        )
        return report if unharmed and report["identity"] == identity else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
