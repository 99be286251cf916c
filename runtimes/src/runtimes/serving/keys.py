"""API keys: who may ask the model, as a file that may change while the server runs.

The file is read again whenever it changed, so a key is taken away without a restart; a file that can no longer
be read leaves the last known keys in place, and never opens the door.
"""

import hmac
from pathlib import Path

import structlog
from fastapi import Request

from runtimes.engines.contract import Refused
from runtimes.failure import Exit, StartupFailure

MIN_LENGTH = 16

log = structlog.get_logger(__name__)


class ApiKeys:
    """The keys of one file: one to a line; empty lines and lines that begin with # are none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._version = _version(path)
            self._keys = _read(path)
        except (OSError, UnicodeDecodeError, ValueError) as error:
            raise StartupFailure(
                Exit.SETTINGS, f"--api_key_file {path} holds no usable keys: {error}"
            ) from error

    def check(self, request: Request) -> None:
        """Raise `Refused` with status 401 unless the request carries a key; a FastAPI dependency."""
        self._follow()
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        # Every key is compared, and each in constant time: the time taken tells nothing of them.
        matches = [hmac.compare_digest(given.strip().encode(), key) for key in self._keys]
        if scheme.lower() != "bearer" or not any(matches):
            raise Refused(
                401,
                "Missing or unknown API key",
                hint="Send the header: Authorization: Bearer KEY",
                code="invalid_api_key",
            )

    def _follow(self) -> None:
        try:
            version = _version(self._path)
            if version != self._version:
                self._keys = _read(self._path)
                self._version = version
                log.info("read the API keys again", keys=len(self._keys))
        except (OSError, UnicodeDecodeError, ValueError) as error:
            log.warning("the API keys cannot be read; the last ones stay", error=str(error))


def _version(path: Path) -> tuple[int, int, int]:
    """Differs whenever the file differs, also when a mounted Secret swaps the folder beneath it."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size


def _read(path: Path) -> list[bytes]:
    lines = [line.strip() for line in path.read_text().splitlines()]
    keys = [line.encode() for line in lines if line and not line.startswith("#")]
    if not keys:
        raise ValueError("it has no line with a key")
    if short := [key for key in keys if len(key) < MIN_LENGTH]:
        raise ValueError(f"{len(short)} of {len(keys)} keys are shorter than {MIN_LENGTH} bytes")
    return keys
