"""Images whose layers nobody vouches for: what is unpacked, and what is refused."""

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from runtimes.failure import Exit, Failure
from runtimes.oci.layers import Limits, unpack

Member = tuple[tarfile.TarInfo, bytes]


def file(name: str, content: bytes = b"x") -> Member:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    return member, content


def special(name: str, kind: bytes, link: str = "") -> Member:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member, b""


def tar(*members: Member) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for member, content in members:
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


@pytest.fixture
def layers(tmp_path: Path) -> Callable[..., list[Path]]:
    def write(*contents: bytes) -> list[Path]:
        paths = [tmp_path / f"layer-{number}" for number in range(len(contents))]
        for path, content in zip(paths, contents, strict=True):
            path.write_bytes(content)
        return paths

    return write


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "root" / "target"
    folder.mkdir(parents=True)
    return folder


Write = Callable[..., list[Path]]


@pytest.mark.parametrize("packed", [bytes, gzip.compress, zstandard.compress])
def test_only_data_is_unpacked(
    packed: Callable[[bytes], bytes], layers: Write, target: Path
) -> None:
    base = tar(
        special("bin/sh", tarfile.SYMTYPE, "/bin/busybox"),
        special("dev/null", tarfile.CHRTYPE),
        file("etc/passwd"),
        special("./data", tarfile.DIRTYPE),
        file("./data/adapter_config.json", b"{}"),
        file("data/deep/er/file", b"deep"),
    )
    assert unpack(layers(packed(base)), target, Limits()) == ["adapter_config.json", "deep/er/file"]
    assert (target / "adapter_config.json").read_bytes() == b"{}"
    assert (target / "deep/er/file").read_bytes() == b"deep"
    assert sorted(path.name for path in target.iterdir()) == ["adapter_config.json", "deep"]


@pytest.mark.parametrize(
    ("lower", "upper", "left"),
    [
        (["data/a", "data/b"], ["data/.wh.a"], ["b"]),
        (["data/a", "data/b"], ["data/.wh..wh..opq", "data/c"], ["c"]),
        (["data/a", "data/b"], ["data/c", "data/.wh..wh..opq"], ["c"]),
        (["data/a", "data/b"], [".wh.data", "data/c"], ["c"]),
        (["data/a"], [".wh..wh..opq", "data/c"], ["c"]),
        (["data/d/a", "data/d/b"], ["data/.wh.d", "data/d/c"], ["d/c"]),
        (["data/d/a", "data/e"], ["data/d"], ["d", "e"]),
        (["data/d"], ["data/d/a"], ["d/a"]),
        (["data/a"], ["data/.wh.never-there"], ["a"]),
        (["data/a"], ["data/.wh.a", "data/a"], ["a"]),
        (["data/a"], ["data/a", "data/.wh.a"], ["a"]),
    ],
)
def test_whiteouts_hide_what_lower_layers_put_there(
    lower: list[str], upper: list[str], left: list[str], layers: Write, target: Path
) -> None:
    made = layers(
        tar(*(file(name, b"lower") for name in lower)),
        tar(*(file(name, b"upper") for name in upper)),
    )
    assert unpack(made, target, Limits()) == left
    on_disk = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    assert on_disk == set(left)
    for name in left:
        expected = b"upper" if f"data/{name}" in upper else b"lower"
        assert (target / name).read_bytes() == expected


def pax_bomb() -> bytes:
    """A header that says that 4 GiB of header follow."""
    member = tarfile.TarInfo("data/x")
    member.type, member.size = tarfile.XHDTYPE, 4 << 30
    return member.tobuf(tarfile.GNU_FORMAT)


def sparse() -> bytes:
    member = tarfile.TarInfo("data/x")
    member.type = tarfile.GNUTYPE_SPARSE
    return member.tobuf(tarfile.GNU_FORMAT) + b"\0" * 1024


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (tar(file("/etc/cron.d/x")), "points outside"),
        (tar(file("data/../../x")), "points outside"),
        (tar(file("../x")), "points outside"),
        (tar(file("data/.wh...")), ""),
        (tar(special("data/l", tarfile.SYMTYPE, "/etc/passwd")), "symbolic link to '/etc/passwd'"),
        (tar(special("data/l", tarfile.LNKTYPE, "etc/passwd")), "hard link"),
        (tar(special("data", tarfile.SYMTYPE, "/")), "symbolic link"),
        (tar(special("data/l", tarfile.SYMTYPE, "/"), file("data/l/x")), "symbolic link"),
        (tar(special("data/d", tarfile.CHRTYPE)), "device"),
        (tar(special("data/d", tarfile.BLKTYPE)), "device"),
        (tar(special("data/d", tarfile.FIFOTYPE)), "device"),
        (tar(file("data")), "must be a folder"),
        (sparse(), "sparse"),
        (pax_bomb(), "no honest one"),
        (tar(file("data/a", b"x" * 2000))[:1500], "is damaged"),
        (gzip.compress(tar(file("data/a", b"x" * 9000)))[:60], "is damaged"),
        (b"<html>not a layer</html>" * 100, "no tar archive"),
        (gzip.compress(bytes(1 << 20)) + b"", ""),
        (gzip.compress(tar(file("data/a", bytes(30 << 20)))), "raise --max-bytes"),
        (gzip.compress(tar(file("elsewhere", bytes(30 << 20)))), "raise --max-bytes"),
        (tar(*(file(f"data/{number}", b"") for number in range(101))), "more than 100 files"),
    ],
)
def test_hostile_layers(layer: bytes, words: str, layers: Write, target: Path) -> None:
    limits = Limits(bytes=20 << 20, members=100)
    if words:
        with pytest.raises(Failure, match=words) as caught:
            unpack(layers(layer), target, limits)
        assert caught.value.code == Exit.DATA
    else:
        assert unpack(layers(layer), target, limits) == []
    root = target.parent
    assert [path.name for path in root.iterdir()] == ["target"]
    assert not any(path.is_symlink() for path in root.rglob("*"))


def test_modes_and_owners_of_the_image_are_not_taken_over(layers: Write, target: Path) -> None:
    member, content = file("data/tool")
    member.mode, member.uid = 0o4777, 12345
    unpack(layers(tar((member, content))), target, Limits())
    assert (target / "tool").stat().st_mode & 0o7000 == 0
    assert (target / "tool").stat().st_uid != 12345
