"""The log of every call that reached the emulated Azure.

Invariant: a call is in the log before it is carried out and completed when it was answered; numbers
only grow, so a test that remembers one sees exactly what came after it.
"""

import json
import time
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from sandbox.aks.store import Store, StoredCall
from sandbox.aks.tasks import Pulse
from sandbox.aks.wire import timestamp


@dataclass
class Call:
    """A call as it comes in: what it is about, as far as the path says."""

    verb: str
    request: Request
    pool: str = ""
    names: dict[str, str] = field(default_factory=dict)
    """Further names in the path: subscription, group, cluster, machine, operation."""
    body: bytes = b""
    faults: list[str] = field(default_factory=list)
    """Ids of the faults that changed it."""

    @property
    def base_url(self) -> str:
        """The address under which the client knows this server."""
        return str(self.request.base_url).rstrip("/")

    @property
    def api_version(self) -> str:
        """The version that the client asked for; empty if it did not."""
        return self.request.query_params.get("api-version", "")

    def header(self, name: str) -> str:
        """Returns a request header, or an empty text."""
        return self.request.headers.get(name, "")


class CallLog:
    """Writes calls into the store and wakes those who follow the log."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.pulse = Pulse()
        for stored in store.unanswered_calls():  # the emulator was killed before it answered
            outcome = {"status": 0, "code": "", "cut": True, "faults": [], "milliseconds": 0.0}
            self.complete(stored.number, {**json.loads(stored.text), **outcome})

    def begin(self, call: Call, now: float) -> "OpenCall":
        """Notes that a call has come in."""
        entry = {
            "time": timestamp(now),
            "verb": call.verb,
            "method": call.request.method,
            "path": call.request.url.path,
            "pool": call.pool,
            "apiVersion": call.api_version,
            "userAgent": call.header("user-agent"),
            "requestId": call.header("x-ms-client-request-id"),
            "ifMatch": call.header("if-match"),
            "ifNoneMatch": call.header("if-none-match"),
            "body": None if call.verb == "TOKEN" else _readable(call.body),
        }
        number = self._store.add_call(call.verb, call.pool, json.dumps(entry))
        self.pulse.beat()
        return OpenCall(self, number, entry, time.monotonic())

    def complete(self, number: int, entry: dict[str, Any]) -> None:
        """Writes the outcome of a call."""
        self._store.update_call(number, int(entry["status"]), json.dumps(entry))
        self.pulse.beat()


@dataclass
class OpenCall:
    """A call that has not been answered yet."""

    log: CallLog
    number: int
    entry: dict[str, Any]
    started: float

    def end(self, status: int, code: str, *, cut: bool, faults: list[str]) -> None:
        """Notes the answer; a call whose connection was cut keeps the status it would have had."""
        outcome = {
            "status": status,
            "code": code,
            "cut": cut,
            "faults": faults,
            "milliseconds": round((time.monotonic() - self.started) * 1000, 1),
        }
        self.log.complete(self.number, {**self.entry, **outcome})


def call_json(stored: StoredCall) -> dict[str, Any]:
    """Returns a line of the log as the control API shows it."""
    return {"number": stored.number, **json.loads(stored.text)}


def _readable(body: bytes) -> Any:
    if not body:
        return None
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")
