"""Keeps the emulator's documents and its call log in a folder.

Invariant: what a method wrote is read back after the process was killed, and one folder serves
one emulator at a time.
"""

import fcntl
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from sandbox.aks.document import Document

Kind = Literal["pool", "vm", "operation", "fault", "value"]
D = TypeVar("D", bound=Document)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS documents (
    kind TEXT NOT NULL, name TEXT NOT NULL, text TEXT NOT NULL, PRIMARY KEY (kind, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS calls (
    number INTEGER PRIMARY KEY AUTOINCREMENT, verb TEXT NOT NULL, pool TEXT NOT NULL,
    status INTEGER, text TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS calls_by_verb ON calls (verb, status);
"""


KEPT_CALLS = 200_000


class StateInUseError(RuntimeError):
    """Another emulator runs on the same folder."""


@dataclass(frozen=True)
class StoredCall:
    """One line of the call log; `text` is its JSON."""

    number: int
    text: str


class Store:
    """A folder with one SQLite file.

    Writes take some tens of microseconds, so they are made on the event loop: a write is over
    before the answer that depends on it is sent.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = (folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise StateInUseError(
                f"--state {folder}: another emulator uses this folder; stop it or name another one"
            ) from None
        self._database = sqlite3.connect(folder / "state.sqlite", isolation_level=None)
        # A killed process loses nothing with these; only a power cut could, and a sandbox
        # is started anew after one. In return no write waits for the disk.
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.executescript(_SCHEMA)

    def close(self) -> None:
        """Releases the folder."""
        self._database.close()
        self._lock.close()

    @contextmanager
    def atomic(self) -> Iterator[None]:
        """Makes all writes inside appear on disk together, or none of them."""
        if self._database.in_transaction:
            yield
            return
        self._database.execute("BEGIN")
        try:
            yield
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    def put(self, kind: Kind, name: str, document: Document) -> None:
        """Writes a document over the one of that name."""
        self._database.execute(
            "INSERT OR REPLACE INTO documents VALUES (?, ?, ?)", (kind, name, document.text())
        )

    def remove(self, kind: Kind, name: str) -> None:
        """Forgets a document; no effect when there is none."""
        self._database.execute("DELETE FROM documents WHERE kind = ? AND name = ?", (kind, name))

    def all(self, kind: Kind, model: type[D]) -> dict[str, D]:
        """Returns the documents of a kind by name."""
        rows = self._database.execute(
            "SELECT name, text FROM documents WHERE kind = ? ORDER BY name", (kind,)
        )
        return {name: model.model_validate_json(text) for name, text in rows}

    def put_value(self, name: str, value: object) -> None:
        """Writes a JSON value over the one of that name."""
        self._database.execute(
            "INSERT OR REPLACE INTO documents VALUES ('value', ?, ?)", (name, json.dumps(value))
        )

    def value(self, name: str, default: Any) -> Any:
        """Returns the JSON value of that name, or `default`."""
        row = self._database.execute(
            "SELECT text FROM documents WHERE kind = 'value' AND name = ?", (name,)
        ).fetchone()
        return default if row is None else json.loads(row[0])

    def add_call(self, verb: str, pool: str, text: str) -> int:
        """Appends to the call log; returns the call's number, which never comes again."""
        cursor = self._database.execute(
            "INSERT INTO calls (verb, pool, text) VALUES (?, ?, ?)", (verb, pool, text)
        )
        number = int(cursor.lastrowid or 0)
        if number % 1000 == 0:
            forgotten = number - KEPT_CALLS
            self._database.execute("DELETE FROM calls WHERE number <= ?", (forgotten,))
        return number

    def update_call(self, number: int, status: int, text: str) -> None:
        """Completes a line of the call log."""
        self._database.execute(
            "UPDATE calls SET status = ?, text = ? WHERE number = ?", (status, text, number)
        )

    def unanswered_calls(self) -> list[StoredCall]:
        """Returns the calls that were never completed."""
        rows = self._database.execute("SELECT number, text FROM calls WHERE status IS NULL")
        return [StoredCall(number, text) for number, text in rows]

    def calls(
        self, *, after: int = 0, verb: str = "", pool: str = "", status: int = 0, limit: int = -1
    ) -> Iterator[StoredCall]:
        """Yields the log in order; `pool` is a shell pattern, empty or 0 means any."""
        rows = self._database.execute(
            "SELECT number, text FROM calls WHERE number > ?"
            " AND (? = '' OR verb = ?) AND (? = '' OR pool GLOB ?) AND (? = 0 OR status = ?)"
            " ORDER BY number LIMIT ?",
            (after, verb, verb, pool, pool, status, status, limit),
        )
        for number, text in rows:
            yield StoredCall(number, text)

    def clear(self) -> None:
        """Forgets all documents and calls; the numbers of calls go on."""
        self._database.execute("DELETE FROM documents")
        self._database.execute("DELETE FROM calls")
