"""Read rows from files whose format is told by their content, never by their name."""

import csv
import gzip
import io
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

from runtimes.failure import Exit, Failure

Row = dict[str, Any]

BATCH = 1000
HEAD_BYTES = 64 << 10
JSON_BYTES = 1 << 30  # of a document that has to be in memory whole
CSV_FIELD_BYTES = 16 << 20
_GZIP = b"\x1f\x8b"
_ARROW_FILE, _ARROW_STREAM = b"ARROW1", b"\xff\xff\xff\xff"
# Well-known files that are no data, with what to say of them.
_OTHERS = (
    (b"PK\x03\x04", "a zip archive: give the files in it one by one"),
    (b"%PDF", "a PDF document"),
    (b"BZh", "compressed with bzip2: use gzip or none"),
    (b"\xfd7zXZ", "compressed with xz: use gzip or none"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd: use gzip or none"),
)


class Format(StrEnum):
    """What a file of rows can be."""

    PARQUET = "parquet"
    ARROW = "arrow"
    JSON_LINES = "JSON lines"
    JSON = "JSON"
    CSV = "CSV"


class NoRows(Failure):
    """The file is no file of rows; the text says what it looks like."""

    def __init__(self, file: Path, what: str) -> None:
        super().__init__(Exit.DATA, f"{file.name} is {what}")


def sniff(file: Path) -> Format:
    """The format of a file. Raises `NoRows`."""
    with file.open("rb") as content:
        head = content.read(8)
        if head.startswith(b"PAR1"):
            return Format.PARQUET
        if head.startswith((_ARROW_FILE, _ARROW_STREAM)):
            return Format.ARROW
        for magic, what in _OTHERS:
            if head.startswith(magic):
                raise NoRows(file, what)
    try:
        with _text(file) as text:
            return _sniff_text(file, text.read(HEAD_BYTES).lstrip())
    except (UnicodeDecodeError, EOFError, gzip.BadGzipFile) as error:
        raise NoRows(file, f"neither parquet, arrow nor text in UTF-8 ({error})") from error


def _sniff_text(file: Path, head: str) -> Format:
    if not head:
        raise NoRows(file, "empty")
    if head.startswith("<"):
        raise NoRows(
            file,
            "an HTML or XML page, such as a log-in or an error page, and no dataset: check the URL",
        )
    if head.startswith("["):
        return Format.JSON
    if head.startswith("{"):
        return Format.JSON_LINES if _is_object(head.splitlines()[0]) else Format.JSON
    if _header(head):
        return Format.CSV
    raise NoRows(file, "neither parquet, arrow, JSON, JSON lines nor CSV")


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        # A first line longer than what we looked at ends midway; a document's first line is short.
        return len(line) > HEAD_BYTES // 2


def _header(head: str) -> list[str]:
    """The column names of a CSV file, or nothing if its first line holds no such names."""
    first = head.splitlines()[0]
    names = next(csv.reader([first], delimiter=_delimiter(first)), [])
    plausible = all(name.strip() and len(name) <= 100 for name in names)
    prose = len(names) == 1 and " " in first.strip()
    return names if plausible and not prose and "\n" in head else []


def _delimiter(first: str) -> str:
    return max(",\t;", key=first.count)


def rows(file: Path, kind: Format) -> Iterator[Row]:
    """The rows of a file, a batch in memory at a time. Raises `Failure` that names the place."""
    readers = {
        Format.PARQUET: _parquet,
        Format.ARROW: _arrow,
        Format.JSON_LINES: _json_lines,
        Format.JSON: _json,
        Format.CSV: _csv,
    }
    try:
        yield from readers[kind](file)
    except (pa.ArrowException, UnicodeDecodeError, EOFError, OSError, csv.Error) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise Failure(
            Exit.DATA, f"{file.name} is damaged: {' '.join(str(error).split())[:200]}"
        ) from error


def _parquet(file: Path) -> Iterator[Row]:
    with pyarrow.parquet.ParquetFile(file) as content:
        for batch in content.iter_batches(batch_size=BATCH):
            yield from batch.to_pylist()


def _arrow(file: Path) -> Iterator[Row]:
    with pa.memory_map(str(file)) as content:
        is_file = content.read(len(_ARROW_FILE)) == _ARROW_FILE
        content.seek(0)
        if is_file:
            reader = pyarrow.ipc.open_file(content)
            batches: Iterable[Any] = map(reader.get_batch, range(reader.num_record_batches))
        else:
            batches = pyarrow.ipc.open_stream(content)
        for batch in batches:
            yield from batch.to_pylist()


def _json_lines(file: Path) -> Iterator[Row]:
    with _text(file) as text:
        for number, line in enumerate(text, 1):
            if line.strip():
                yield _object(line, f"{file.name}, line {number}")


def _object(text: str, place: str) -> Row:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Failure(Exit.DATA, f"{place}: not JSON: {error}") from error
    if not isinstance(content, dict):
        raise Failure(Exit.DATA, f"{place}: not an object")
    return content


def _json(file: Path) -> Iterator[Row]:
    """A list of objects, or an object with one such list in it, as in `{"data": [...]}`."""
    if file.stat().st_size > JSON_BYTES:
        raise Failure(
            Exit.DATA, f"{file.name} is one JSON document of over 1 GiB: convert it to JSON lines"
        )
    with _text(file) as text:
        try:
            content = json.load(text)
        except (ValueError, RecursionError) as error:
            raise Failure(Exit.DATA, f"{file.name} is not JSON: {error}") from error
    if isinstance(content, dict):
        lists = [value for value in content.values() if isinstance(value, list)]
        content = lists[0] if len(lists) == 1 else [content]
    for number, row in enumerate(content, 1):
        if not isinstance(row, dict):
            raise Failure(Exit.DATA, f"{file.name}, entry {number}: not an object")
        yield row


def _csv(file: Path) -> Iterator[Row]:
    csv.field_size_limit(CSV_FIELD_BYTES)
    with _text(file) as text:
        delimiter = _delimiter(text.readline())
        text.seek(0)
        for row in csv.DictReader(text, delimiter=delimiter):
            if row.pop(cast("Any", None), None) is not None:
                raise Failure(Exit.DATA, f"{file.name}: a line has more fields than the header")
            yield dict(row)


@contextmanager
def _text(file: Path) -> Iterator[IO[str]]:
    with file.open("rb") as raw:
        packed = raw.read(2) == _GZIP
        raw.seek(0)
        content: Any = gzip.GzipFile(fileobj=raw) if packed else raw
        with io.TextIOWrapper(content, encoding="utf-8-sig", newline="") as text:
            yield text
