"""From URLs or a folder to one file of samples that the trainer reads.

Every row is accounted for: it became a sample, was empty, or was malformed. No sample, no training.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import structlog

from runtimes.failure import Exit, Failure
from runtimes.tuning.formats import Format, NoRows, Row, rows, sniff
from runtimes.tuning.rows import Empty, Layout, Malformed, Shape, choose
from runtimes.tuning.sections import DatasetConfig

BATCH = 1000
# What `datasets` leaves beside the data.
_NOT_DATA = frozenset({"dataset_info.json", "dataset_infos.json", "state.json"})
_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
SCHEMAS = {
    Shape.CHAT: pa.schema([("prompt", _MESSAGES), ("completion", _MESSAGES)]),
    Shape.COMPLETION: pa.schema([("prompt", pa.string()), ("completion", pa.string())]),
    Shape.TEXT: pa.schema([("text", pa.string())]),
}

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class SourceFile:
    """One file that rows came from."""

    name: str
    format: Format
    bytes: int
    sha256: str


@dataclass
class Counts:
    """What became of the rows."""

    samples: int = 0
    empty: int = 0
    malformed: int = 0


@dataclass(frozen=True)
class Samples:
    """The samples, in a parquet file with the columns of their shape."""

    file: Path
    shape: Shape
    sources: list[SourceFile]
    counts: Counts = field(default_factory=Counts)

    def digest(self) -> str:
        """The same for the same files in the same order, wherever they came from."""
        content = json.dumps([source.sha256 for source in self.sources])
        return f"sha256:{hashlib.sha256(content.encode()).hexdigest()}"

    def summary(self) -> dict[str, Any]:
        """For the report."""
        return {
            "sha256": self.digest(),
            "shape": str(self.shape),
            "rows": asdict(self.counts),
            "files": [asdict(source) for source in self.sources],
        }


def find_files(folder: Path, config: DatasetConfig) -> list[Path]:
    """The data files in a folder, or those that the config names in it. Raises `Failure`."""
    place = _named(folder, config.dataset_path) if config.dataset_path else folder
    found = [place] if place.is_file() else sorted(place.rglob("*"))
    files = [path for path in found if path.is_file() and not _is_hidden(path, folder)]
    if not files:
        raise Failure(
            Exit.DATA, f"there is no file in {place}: give --data_url, or mount data at --data_dir"
        )
    return _one_format(files)


def _named(folder: Path, name: str) -> Path:
    """The path that the config names: from the folder, or from /mnt, where the folder is mounted."""
    relative = name.lstrip("/")
    for path in (folder / relative, folder.parent / relative, Path(name)):
        if path.exists() and path.resolve().is_relative_to(folder.resolve()):
            return path
    raise Failure(Exit.DATA, f"DatasetConfig.dataset_path: there is no {name} in {folder}")


def _is_hidden(path: Path, folder: Path) -> bool:
    parts = path.relative_to(folder).parts if path.is_relative_to(folder) else path.parts
    return path.name in _NOT_DATA or any(part.startswith(".") for part in parts)


def _one_format(files: Sequence[Path]) -> list[Path]:
    """The files with rows; a readme beside them does no harm, a second format is a question."""
    by_format: dict[Format, list[Path]] = {}
    others: list[NoRows] = []
    for file in files:
        try:
            by_format.setdefault(sniff(file), []).append(file)
        except NoRows as error:
            others.append(error)
    if not by_format:
        raise others[0]
    if len(by_format) > 1:
        named = ", ".join(f"{kind}: {found[0].name}" for kind, found in by_format.items())
        raise Failure(
            Exit.DATA,
            f"the data folder holds files of several formats ({named}); "
            "name the one to use in DatasetConfig.dataset_path",
        )
    for refusal in others:
        log.warning("a file is left out", reason=refusal.message)
    return next(iter(by_format.values()))


def prepare(
    files: Sequence[Path], config: DatasetConfig, out: Path, text_field: str = ""
) -> Samples:
    """Write the samples in these files to `out`. Raises `Failure`, and OSError for a full disk."""
    formats = [sniff(file) for file in files]
    sources = [
        SourceFile(file.name, kind, file.stat().st_size, _sha256(file))
        for file, kind in zip(files, formats, strict=True)
    ]
    found = _all_rows(files, formats)
    first = list(islice(found, 1))
    if not first:
        raise Failure(Exit.DATA, f"{files[0].name} has no rows")
    layout = choose(first[0], config, text_field)
    samples = Samples(out, layout.shape, sources)
    _write(chain(first, found), layout, samples)
    counts = samples.counts
    log.info("the dataset is read", shape=str(layout.shape), **asdict(counts))
    if not counts.samples:
        raise Failure(
            Exit.DATA,
            f"no row can be learned from: {counts.empty} without text in "
            f"{' or '.join(layout.columns)}, {counts.malformed} malformed",
        )
    return samples


def _all_rows(files: Sequence[Path], formats: Sequence[Format]) -> Iterator[Row]:
    for file, kind in zip(files, formats, strict=True):
        yield from rows(file, kind)


def _write(found: Iterable[Row], layout: Layout, samples: Samples) -> None:
    schema = SCHEMAS[layout.shape]
    with pyarrow.parquet.ParquetWriter(samples.file, schema) as writer:
        batches = _samples(found, layout, samples.counts)
        while batch := list(islice(batches, BATCH)):
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))


def _samples(found: Iterable[Row], layout: Layout, counts: Counts) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(found, 1):
        try:
            sample = layout.sample(row)
        except Empty:
            counts.empty += 1
        except Malformed as problem:
            if not counts.malformed:
                log.warning("a row is malformed", row=number, reason=str(problem))
            counts.malformed += 1
        else:
            counts.samples += 1
            yield sample


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
