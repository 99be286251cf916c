"""Datasets as people have them: formats by content, layouts by columns, and files that are none."""

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import pytest

from runtimes.failure import Exit, Failure
from runtimes.tuning.dataset import Samples, find_files, prepare
from runtimes.tuning.formats import Format, sniff
from runtimes.tuning.rows import Shape
from runtimes.tuning.sections import DatasetConfig

ASK = {"role": "user", "content": "What?"}
SAY = {"role": "assistant", "content": "That."}
CHAT = {"messages": [ASK, SAY]}
SAMPLE = {"prompt": [ASK], "completion": [SAY]}

Row = dict[str, Any]


def parquet(rows: list[Row]) -> bytes:
    out = io.BytesIO()
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


def arrow(rows: list[Row], *, stream: bool) -> bytes:
    table = pa.Table.from_pylist(rows)
    out = io.BytesIO()
    make = pyarrow.ipc.new_stream if stream else pyarrow.ipc.new_file
    with make(out, table.schema) as writer:
        writer.write_table(table)
    return out.getvalue()


def lines(rows: list[Row]) -> bytes:
    return "\n".join(map(json.dumps, rows)).encode()


def table(rows: list[Row], delimiter: str = ",") -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def made(folder: Path, *contents: bytes, **config: Any) -> Samples:
    folder.mkdir(exist_ok=True)
    files = [folder / f"{number}.bin" for number in range(len(contents))]
    for file, content in zip(files, contents, strict=True):
        file.write_bytes(content)
    return prepare(files, DatasetConfig(**config), folder / "samples.parquet")


def content(samples: Samples) -> list[Row]:
    rows: list[Row] = pyarrow.parquet.read_table(samples.file).to_pylist()
    return rows


PLAIN = [{"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": 'd,\n"e"'}]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (parquet(PLAIN), Format.PARQUET),
        (arrow(PLAIN, stream=False), Format.ARROW),
        (arrow(PLAIN, stream=True), Format.ARROW),
        (lines(PLAIN), Format.JSON_LINES),
        (b"\xef\xbb\xbf" + lines(PLAIN) + b"\n\n", Format.JSON_LINES),
        (gzip.compress(lines(PLAIN)), Format.JSON_LINES),
        (json.dumps(PLAIN).encode(), Format.JSON),
        (json.dumps(PLAIN, indent=1).encode(), Format.JSON),
        (json.dumps({"version": 1, "data": PLAIN}, indent=1).encode(), Format.JSON),
        (table(PLAIN), Format.CSV),
        (table(PLAIN, "\t"), Format.CSV),
        (table(PLAIN, ";"), Format.CSV),
    ],
)
def test_formats_are_told_by_content(data: bytes, kind: Format, tmp_path: Path) -> None:
    samples = made(tmp_path, data)
    assert [source.format for source in samples.sources] == [kind]
    assert [
        {name: row[name].replace("\r", "") for name in row} for row in content(samples)
    ] == PLAIN


@pytest.mark.parametrize(
    ("row", "shape", "sample"),
    [
        (CHAT, Shape.CHAT, SAMPLE),
        ({"messages": json.dumps([ASK, SAY])}, Shape.CHAT, SAMPLE),
        ({"messages": [ASK, SAY, ASK]}, Shape.CHAT, SAMPLE),
        (
            {"messages": [ASK, SAY, ASK, SAY]},
            Shape.CHAT,
            {"prompt": [ASK, SAY, ASK], "completion": [SAY]},
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "What?"}]}, SAY]},
            Shape.CHAT,
            SAMPLE,
        ),
        (
            {
                "conversations": [
                    {"from": "human", "value": "What?"},
                    {"from": "gpt", "value": "That."},
                ]
            },
            Shape.CHAT,
            SAMPLE,
        ),
        ({"prompt": "a", "completion": "b"}, Shape.COMPLETION, {"prompt": "a", "completion": "b"}),
        (
            {"instruction": "i", "context": "", "response": "r", "category": "x"},
            Shape.COMPLETION,
            {"prompt": "i\n\n", "completion": "r"},
        ),
        (
            {"instruction": "i", "context": "c", "response": "r"},
            Shape.COMPLETION,
            {"prompt": "i\n\nc\n\n", "completion": "r"},
        ),
        (
            {"instruction": "i", "input": None, "output": "r"},
            Shape.COMPLETION,
            {"prompt": "i\n\n", "completion": "r"},
        ),
        ({"text": "t", "id": 5}, Shape.TEXT, {"text": "t"}),
    ],
)
def test_layouts_are_told_by_columns(row: Row, shape: Shape, sample: Row, tmp_path: Path) -> None:
    samples = made(tmp_path, lines([row]))
    assert samples.shape == shape
    assert content(samples) == [sample]


@pytest.mark.parametrize(
    ("config", "row", "sample"),
    [
        ({"messages_column": "chat"}, {"chat": [ASK, SAY], "text": "t"}, SAMPLE),
        (
            {"context_column": "q", "response_column": "a"},
            {"q": "x", "a": "y"},
            {"prompt": "x", "completion": "y"},
        ),
        ({"response_column": "body"}, {"body": "x", "text": "t"}, {"text": "x"}),
        # the old default, which was never looked at
        ({"response_column": "text"}, CHAT, SAMPLE),
    ],
)
def test_columns_can_be_named(config: Row, row: Row, sample: Row, tmp_path: Path) -> None:
    assert content(made(tmp_path, lines([row]), **config)) == [sample]


def test_every_row_is_accounted_for(tmp_path: Path) -> None:
    rows: list[Row] = [
        CHAT,
        {"messages": []},
        {"messages": [ASK]},
        {"messages": [ASK, {**SAY, "content": "  "}]},
        {"messages": [SAY]},
        {"messages": [{**ASK, "role": "narrator"}, SAY]},
        {"messages": "not JSON"},
        {"messages": 5},
        {"messages": [ASK, {"role": "assistant", "content": None}]},
        {"other": 1},
        CHAT,
    ]
    counts = made(tmp_path, lines(rows)).counts
    assert (counts.samples, counts.empty, counts.malformed) == (2, 3, 6)


HTML = b"<!DOCTYPE html><html><body>Please log in</body></html>"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (HTML, "is an HTML or XML page"),
        (b"\n  <html>", "is an HTML or XML page"),
        (gzip.compress(HTML), "is an HTML or XML page"),
        (b"", "is empty"),
        (b" \n ", "is empty"),
        (b"PK\x03\x04zip", "a zip archive"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "neither parquet, arrow nor text"),
        (b"Once upon a time there was a model.\nIt learned.", "neither parquet, arrow, JSON"),
        (b"PAR1 and no more", "is damaged"),
        (parquet(PLAIN)[:-20], "is damaged"),
        (lines(PLAIN) + b'\n{"prompt": ', "line 3: not JSON"),
        (b'{"prompt": "a", "completion": "b"}\n[1]', "line 2: not an object"),
        (b"[1, 2]", "entry 1: not an object"),
        (b"[]", "has no rows"),
        (b"[", "is not JSON"),
        (b"a,b\n1,2,3\n", "more fields than the header"),
        (b"prompt,completion\n", "has no rows"),
        (
            lines([{"question": "q", "answer": "a"}]),
            "the columns answer, question: none of the known",
        ),
        (lines([{"messages": [ASK]}]), "no row can be learned from: 1 without text in messages"),
        (lines([{"text": ""}, {"text": 5}]), "1 without text in text, 1 malformed"),
    ],
)
def test_what_cannot_be_learned_from(data: bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(Failure) as caught:
        made(tmp_path, data)
    assert caught.value.code == Exit.DATA
    assert words in caught.value.message


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="has the columns text: the config names column 'chat'"):
        made(tmp_path, lines([{"text": "t"}]), messages_column="chat")


def test_several_files_are_one_dataset(tmp_path: Path) -> None:
    samples = made(tmp_path / "1", lines(PLAIN), table(PLAIN))
    assert samples.counts.samples == 4
    moved = made(tmp_path / "2", lines(PLAIN), table(PLAIN))
    swapped = made(tmp_path / "3", table(PLAIN), lines(PLAIN))
    assert samples.digest() == moved.digest()
    assert samples.digest() != swapped.digest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A mounted dataset, as a downloader or an image leaves it."""
    data = tmp_path / "data"
    (data / "part").mkdir(parents=True)
    (data / "part" / "b.jsonl").write_bytes(lines(PLAIN))
    (data / "part" / "a.txt").write_bytes(lines(PLAIN))
    (data / "README.md").write_text("# Some words about it\nand more")
    (data / "dataset_info.json").write_text('{"features": {}}')
    (data / ".cache").mkdir()
    (data / ".cache" / "x.parquet").write_bytes(parquet(PLAIN))
    return data


def test_the_data_files_of_a_folder(folder: Path) -> None:
    found = find_files(folder, DatasetConfig())
    assert [path.name for path in found] == ["a.txt", "b.jsonl"]


@pytest.mark.parametrize("name", ["part/b.jsonl", "data/part/b.jsonl", "/data/part/b.jsonl"])
def test_a_named_file(name: str, folder: Path) -> None:
    assert find_files(folder, DatasetConfig(dataset_path=name)) == [folder / "part/b.jsonl"]


@pytest.mark.parametrize("name", ["none", "../outside.jsonl", "/etc"])
def test_a_name_that_is_not_below_the_folder(name: str, folder: Path) -> None:
    (folder.parent / "outside.jsonl").write_bytes(lines(PLAIN))
    with pytest.raises(Failure, match=f"there is no {name} in {folder}"):
        find_files(folder, DatasetConfig(dataset_path=name))


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"there is no file in .*: give --data_url, or mount"):
        find_files(tmp_path, DatasetConfig())


def test_two_formats_are_a_question(folder: Path) -> None:
    (folder / "c.parquet").write_bytes(parquet(PLAIN))
    with pytest.raises(Failure, match=r"several formats .*DatasetConfig.dataset_path") as caught:
        find_files(folder, DatasetConfig())
    assert caught.value.code == Exit.DATA


def test_a_folder_without_data(folder: Path) -> None:
    with pytest.raises(Failure, match="neither parquet, arrow, JSON, JSON lines nor CSV"):
        find_files(folder, DatasetConfig(dataset_path="README.md"))


def test_a_name_says_nothing_about_content(tmp_path: Path) -> None:
    file = tmp_path / "train.parquet"
    file.write_bytes(table(PLAIN))
    assert sniff(file) is Format.CSV
