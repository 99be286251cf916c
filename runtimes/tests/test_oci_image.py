import gzip
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

from runtimes.oci.image import build


def files(folder: Path) -> dict[str, Path]:
    folder.mkdir(exist_ok=True)
    (folder / "b").write_bytes(b"weights" * 100_000)
    (folder / "a").write_bytes(b"{}")
    return {"sub/b": folder / "b", "a": folder / "a"}


def test_the_same_files_make_the_same_image(tmp_path: Path) -> None:
    first = build(files(tmp_path / "1"), tmp_path / "x", annotations={"k": "v"})
    again = files(tmp_path / "2")
    for path in again.values():
        path.chmod(0o700)
        os.utime(path, (1, 1))
    reordered = dict(reversed(again.items()))
    second = build(reordered, tmp_path / "y", annotations={"k": "v"})
    assert first.digest == second.digest
    assert blobs(tmp_path / "x") == blobs(tmp_path / "y")


def test_the_layer_tells_no_time_and_no_user(tmp_path: Path) -> None:
    build(files(tmp_path / "1"), tmp_path / "x", annotations={})
    [packed] = [content for content in blobs(tmp_path / "x").values() if content[:2] == b"\x1f\x8b"]
    assert packed[4:8] == bytes(4)  # gzip's own date
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(packed))) as layer:
        members = layer.getmembers()
    assert [member.name for member in members] == ["data", "data/sub", "data/a", "data/sub/b"]
    assert {(each.mtime, each.uid, each.gid, each.uname) for each in members} == {(0, 0, 0, "")}


def test_other_files_annotations_or_dates_make_another(tmp_path: Path) -> None:
    content = files(tmp_path / "1")
    first = build(content, tmp_path / "x", annotations={})
    content["a"].write_bytes(b"[]")
    others = [
        build(content, tmp_path / "2", annotations={}),
        build(files(tmp_path / "1"), tmp_path / "3", annotations={"k": "v"}),
        build(files(tmp_path / "1"), tmp_path / "4", annotations={}, epoch=86_400),
    ]
    assert len({first.digest, *(other.digest for other in others)}) == 4


def test_the_layout_holds_what_its_descriptors_say(tmp_path: Path) -> None:
    made = build(files(tmp_path / "1"), tmp_path / "x", annotations={"k": "v"}, tag="v1")
    index = json.loads((tmp_path / "x" / "index.json").read_bytes())
    [entry] = index["manifests"]
    assert entry["digest"] == made.digest
    assert entry["annotations"] == {"org.opencontainers.image.ref.name": "v1"}
    manifest = json.loads(blob(tmp_path / "x", entry))
    assert manifest["annotations"] == {
        "k": "v",
        "org.opencontainers.image.created": "1970-01-01T00:00:00Z",
    }
    descriptors = [entry, manifest["config"], *manifest["layers"]]
    assert sum(descriptor["size"] for descriptor in descriptors) == made.size
    for descriptor in descriptors:
        content = blob(tmp_path / "x", descriptor)
        assert len(content) == descriptor["size"]
        assert f"sha256:{hashlib.sha256(content).hexdigest()}" == descriptor["digest"]


def blob(layout: Path, descriptor: dict[str, Any]) -> bytes:
    return layout.joinpath("blobs", *str(descriptor["digest"]).split(":")).read_bytes()


def blobs(layout: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (layout / "blobs" / "sha256").iterdir()}
