"""Unpack the folder /data of an image whose layers nobody vouches for.

Nothing is ever written outside the target, nothing but plain files and folders is made, and no image can
make us write or read more than the limits say.
"""

import gzip
import io
import lzma
import shutil
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Self, cast

import zstandard

from runtimes.failure import Exit, Failure
from runtimes.oci.image import FOLDER

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
GIB = 1 << 30
# Long names and extended headers, which tarfile reads into memory whole.
_HEADERS = frozenset({tarfile.XHDTYPE, tarfile.XGLTYPE, b"X", b"L", b"K"})
_HEADER_BYTES = 1 << 20
_CHUNK = 1 << 20
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, zstandard.ZstdError)

Parts = tuple[str, ...]


@dataclass
class Limits:
    """What one image may cost: bytes after decompression, and members, over all layers."""

    bytes: int = 50 * GIB
    members: int = 100_000


def unpack(layers: Sequence[Path], target: Path, limits: Limits) -> list[str]:
    """Write what the layers, lowest first, leave in /data to `target`; the paths, sorted.

    `target` must be an empty folder. Raises `Failure` that names the member, and OSError for a full disk.
    """
    tree = _Tree(target)
    budget = _Budget(limits)
    for number, layer in enumerate(layers):
        with _plain(layer, budget) as stream:
            _apply(stream, number, tree, budget)
    return tree.files()


def _apply(stream: BinaryIO, number: int, tree: "_Tree", budget: "_Budget") -> None:
    try:
        with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member) as tar:
            for member in tar:
                budget.member()
                _take(tar, member, number, tree)
    except (tarfile.TarError, *_DAMAGED) as error:
        raise _refusal(f"layer {number + 1} is damaged or is no tar archive: {error}") from error


def _take(tar: tarfile.TarFile, member: tarfile.TarInfo, number: int, tree: "_Tree") -> None:
    parts = _parts(member.name)
    if not parts:
        return
    if parts[-1] == OPAQUE:
        tree.hide(parts[:-1], number)
    elif parts[-1].startswith(WHITEOUT):
        tree.hide((*parts[:-1], parts[-1].removeprefix(WHITEOUT)), number)
    elif parts[0] != FOLDER:
        return  # the rest of a base image; it may hold links and devices as it likes
    elif member.isdir():
        tree.add_folder(parts, number)
    elif not member.isreg() or member.sparse is not None:
        raise _refusal(
            f"{member.name!r} is a {_kind(member)}: below /{FOLDER} there may be only files and "
            "folders; copy what it points to instead"
        )
    elif len(parts) == 1:
        raise _refusal(f"/{FOLDER} is a file, and must be a folder")
    else:
        content = tar.extractfile(member)
        assert content is not None, "a regular file has content"
        tree.add_file(parts, number, cast("BinaryIO", content))


def _parts(name: str) -> Parts:
    if name.startswith("/") or "\0" in name or ".." in name.split("/"):
        raise _refusal(f"{name!r} points outside the image; it was made to do harm or by mistake")
    return tuple(part for part in name.split("/") if part not in {"", "."})


def _kind(member: tarfile.TarInfo) -> str:
    if member.issym():
        return f"symbolic link to {member.linkname!r}"
    if member.islnk():
        return f"hard link to {member.linkname!r}"
    if member.ischr() or member.isblk() or member.isfifo():
        return "device"
    return "sparse or special file"


def _refusal(message: str) -> Failure:
    return Failure(Exit.DATA, message)


class _Member(tarfile.TarInfo):
    """A tar header that refuses to announce a header larger than any honest one."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        member = super().frombuf(buf, encoding, errors)
        if member.type in _HEADERS and member.size > _HEADER_BYTES:
            raise _refusal(f"a header of {member.size:,} bytes is no honest one")
        return member


@dataclass
class _Tree:
    """The folder as it grows; remembers which layer each path came from.

    A whiteout hides what lower layers put there, and never what its own layer does.
    """

    root: Path
    owner: dict[Parts, int] = field(default_factory=dict)
    folders: set[Parts] = field(default_factory=set)

    def hide(self, prefix: Parts, number: int) -> None:
        """Remove what lower layers have at and below `prefix`."""
        for path in self._at(prefix):
            if self.owner[path] < number and not self._in_use(path):
                self._remove(path)

    def add_folder(self, parts: Parts, number: int) -> None:
        for length in range(1, len(parts) + 1):
            path = parts[:length]
            if path in self.owner and path not in self.folders:
                self._remove(path)  # a file before
            if path not in self.folders:
                self._path(path).mkdir(exist_ok=path == (FOLDER,))
                self.folders.add(path)
            self.owner[path] = max(number, self.owner.get(path, 0))

    def add_file(self, parts: Parts, number: int, content: BinaryIO) -> None:
        self.add_folder(parts[:-1], number)
        for path in self._at(parts):
            self._remove(path)
        with self._path(parts).open("xb") as file:
            shutil.copyfileobj(content, file, _CHUNK)
        self.owner[parts] = number

    def files(self) -> list[str]:
        """All files, relative to the root."""
        return sorted("/".join(path[1:]) for path in self.owner if path not in self.folders)

    def _at(self, prefix: Parts) -> list[Parts]:
        """What there is at and below `prefix`, deepest first; no search if there is nothing."""
        if prefix and prefix not in self.owner:
            return []
        below = self._path(prefix).rglob("*") if not prefix or prefix in self.folders else ()
        found = [(FOLDER, *path.relative_to(self.root).parts) for path in below]
        top = prefix or (FOLDER,)
        return [*sorted(found, key=len, reverse=True), *([top] if top in self.owner else [])]

    def _in_use(self, path: Parts) -> bool:
        return path in self.folders and any(self._path(path).iterdir())

    def _remove(self, path: Parts) -> None:
        if path in self.folders:
            if path != (FOLDER,):
                self._path(path).rmdir()
            self.folders.remove(path)
        else:
            self._path(path).unlink()
        del self.owner[path]

    def _path(self, parts: Parts) -> Path:
        return self.root.joinpath(*parts[1:])


class _Budget:
    """What is left of the limits."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._bytes = 0
        self._members = 0

    def read(self, size: int) -> None:
        self._bytes += size
        if self._bytes > self._limits.bytes:
            raise _refusal(
                f"the image holds more than {self._limits.bytes:,} bytes; "
                "if that is right, raise --max-bytes"
            )

    def member(self) -> None:
        self._members += 1
        if self._members > self._limits.members:
            raise _refusal(f"the image holds more than {self._limits.members:,} files")


class _Metered(io.RawIOBase):
    """What has passed is charged to the budget, chunk by chunk: a bomb ends with its first excess."""

    def __init__(self, source: Any, budget: _Budget) -> None:
        self._source = source
        self._budget = budget

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._source.read(_CHUNK if size < 0 else min(size, _CHUNK))
        self._budget.read(len(data))
        return data


@contextmanager
def _plain(layer: Path, budget: _Budget) -> Iterator[BinaryIO]:
    """The layer's tar; how it is compressed is read from its first bytes."""
    with layer.open("rb") as file:
        magic = file.read(4)
        file.seek(0)
        source: Any = file
        if magic.startswith(_GZIP):
            source = gzip.GzipFile(fileobj=file, mode="rb")
        elif magic == _ZSTD:
            source = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        yield cast("BinaryIO", _Metered(source, budget))
