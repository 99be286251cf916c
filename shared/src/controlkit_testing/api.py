"""An API server in memory, for tests in virtual time.

Invariant: resourceVersions grow with every write, a write guarded by another version is refused,
and a watch tells every write once. It knows no schemas, defaults, selectors, admission or field
ownership: what depends on those belongs before the real API server.
"""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any, NamedTuple

from controlkit.errors import ControlError
from controlkit.kube.client import KubeClient
from controlkit.kube.errors import Status, mapped, refusal
from controlkit.kube.objects import Key, Resource
from controlkit.kube.wire import Lines

Json = dict[str, Any]

BOOKMARK_SECONDS = 60.0


class Hang(ControlError):
    """Given by a fault: the call waits for its deadline."""


class _Place(NamedTuple):
    """A URL path taken apart."""

    root: str
    plural: str
    namespace: str
    name: str
    subresource: str


class _Watcher(NamedTuple):
    place: _Place
    reader: asyncio.StreamReader


def _no_fault(verb: str, path: str) -> ControlError | None:
    del verb, path
    return None


class MemoryApi:
    """Implements `controlkit.kube.wire.Wire`.

    Attributes:
        fault: asked about each (verb, path) first; the error that it gives is raised.
        calls: each (verb, path) so far; a watch's verb is WATCH.
        silent: whether watches send no bookmarks.
    """

    def __init__(self) -> None:
        self.fault: Callable[[str, str], ControlError | None] = _no_fault
        self.calls: list[tuple[str, str]] = []
        self.silent = False
        self._versions = itertools.count(100)
        self._version = next(self._versions)
        self._forgotten = 0
        self._objects: dict[_Place, Json] = {}
        self._history: list[tuple[int, str, _Place, Json]] = []
        self._watchers: list[_Watcher] = []

    def client(self, field_manager: str = "test") -> KubeClient:
        """A client of this server."""
        return KubeClient(self, field_manager)

    def put(self, resource: Resource, manifest: Mapping[str, Any]) -> Json:
        """Creates or replaces an object, as somebody else would."""
        meta = manifest["metadata"]
        place = _take_apart(resource.path(meta.get("namespace"), meta["name"]))
        head = {"apiVersion": resource.api_version, "kind": resource.kind}
        return self._write(place, head | deepcopy(dict(manifest)))

    def see(self, resource: Resource, key: Key) -> Json | None:
        """The object as it is, for assertions."""
        found = self._objects.get(_take_apart(resource.path(key.namespace, key.name)))
        return deepcopy(found)

    def remove(self, resource: Resource, key: Key) -> None:
        """Deletes an object at once, finalizers or not."""
        self._erase(_take_apart(resource.path(key.namespace, key.name)))

    def all(self, resource: Resource) -> list[Json]:
        """Every object of a kind, for assertions."""
        collection = _take_apart(resource.path())
        return [deepcopy(o) for p, o in self._objects.items() if _within(p, collection)]

    def cut(self, tail: bytes = b"") -> None:
        """Ends every watch, after sending `tail`."""
        for watcher in list(self._watchers):
            watcher.reader.feed_data(tail)
            self._end(watcher)

    def say(self, line: Mapping[str, Any]) -> None:
        """Sends a line of one's own on every watch."""
        for watcher in self._watchers:
            watcher.reader.feed_data(json.dumps(line).encode() + b"\n")

    def compact(self) -> None:
        """Forgets all history: watches from an older version are answered 410."""
        self._forgotten = self._version

    async def request(
        self,
        verb: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        timeout: float = 30.0,
    ) -> bytes:
        """One call; see `Wire`."""
        await self._meet_fault(verb, path, timeout)
        if (query or {}).get("dryRun") == "All":
            return json.dumps(body).encode()
        if verb == "GET" and (served := self._discovered(path)) is not None:
            return json.dumps(served).encode()
        place = _take_apart(path)
        match verb:
            case "GET" if place.name:
                answer = self._found(verb, place)
            case "GET":
                answer = self._list(place)
            case "POST":
                answer = self._create(place, body)
            case "PATCH":
                answer = self._patch(
                    place, body, applied=content_type.startswith("application/apply")
                )
            case _:
                answer = self._delete(place, body)
        return json.dumps(answer).encode()

    @asynccontextmanager
    async def stream(
        self, path: str, *, query: Mapping[str, str], timeout: float
    ) -> AsyncIterator[Lines]:
        """A watch; see `Wire`."""
        await self._meet_fault("WATCH", path, timeout)
        since = int(query["resourceVersion"])
        if since < self._forgotten:
            raise refusal(f"WATCH {path}", Status(code=410, reason="Expired", message="too old"))
        watcher = _Watcher(_take_apart(path), asyncio.StreamReader())
        for version, kind, place, item in self._history:
            if version > since and _within(place, watcher.place):
                watcher.reader.feed_data(_line(kind, item))
        self._watchers.append(watcher)
        loop = asyncio.get_running_loop()
        timers = [loop.call_later(float(query["timeoutSeconds"]), self._end, watcher)]
        timers.append(loop.call_later(BOOKMARK_SECONDS, self._bookmark, watcher, timers))
        try:
            yield Lines(f"WATCH {path}", watcher.reader)
        finally:
            for timer in timers:
                timer.cancel()
            self._end(watcher)

    async def close(self) -> None:
        """Ends every watch."""
        self.cut()

    async def _meet_fault(self, verb: str, path: str, timeout: float) -> None:
        self.calls.append((verb, path))
        await asyncio.sleep(0)
        fault = self.fault(verb, path)
        if isinstance(fault, Hang):
            with mapped(f"{verb} {path}", timeout):
                async with asyncio.timeout(timeout):
                    await asyncio.Event().wait()
        if fault is not None:
            raise fault

    def _end(self, watcher: _Watcher) -> None:
        if watcher in self._watchers:
            self._watchers.remove(watcher)
            watcher.reader.feed_eof()

    def _bookmark(self, watcher: _Watcher, timers: list[asyncio.TimerHandle]) -> None:
        if watcher not in self._watchers:
            return
        if not self.silent:
            item = {"metadata": {"resourceVersion": str(self._version)}}
            watcher.reader.feed_data(_line("BOOKMARK", item))
        loop = asyncio.get_running_loop()
        timers[1] = loop.call_later(BOOKMARK_SECONDS, self._bookmark, watcher, timers)

    def _discovered(self, path: str) -> Json | None:
        """What a version of a group serves, which is any kind that was ever put or asked for."""
        root = path.strip("/")
        if len(root.split("/")) != (2 if root.startswith("api/") else 3):
            return None
        known = {at.plural for at in self._objects if at.root == root}
        known |= {at.plural for _, _, at, _ in self._history if at.root == root}
        return {"resources": [{"name": plural} for plural in sorted(known)]}

    def _found(self, verb: str, place: _Place) -> Json:
        found = self._objects.get(place._replace(subresource=""))
        if found is None:
            status = Status(code=404, reason="NotFound", message=f"no {place.plural} {place.name}")
            raise refusal(f"{verb} {place.plural}", status)
        return found

    def _list(self, place: _Place) -> Json:
        items = [item for at, item in self._objects.items() if _within(at, place)]
        return {"metadata": {"resourceVersion": str(self._version)}, "items": items}

    def _create(self, place: _Place, body: Json) -> Json:
        at = place._replace(name=body["metadata"]["name"])
        if at in self._objects:
            raise refusal(f"POST {at.plural}", Status(code=409, reason="AlreadyExists"))
        return self._write(at, deepcopy(body))

    def _patch(self, place: _Place, patch: Json, *, applied: bool) -> Json:
        at = place._replace(subresource="")
        if applied and at not in self._objects and not place.subresource:
            return self._write(at, deepcopy(patch))
        old = self._found("PATCH", place)
        guard = patch.get("metadata", {}).get("resourceVersion")
        if guard is not None and guard != old["metadata"]["resourceVersion"]:
            message = f"{place.name} has been modified"
            raise refusal(
                f"PATCH {place.plural}", Status(code=409, reason="Conflict", message=message)
            )
        new = _merged(old, patch, keyed=applied)
        if place.subresource:
            new = old | {place.subresource: new.get(place.subresource)}
        elif "status" in old:
            new["status"] = old["status"]
        return self._write(at, new)

    def _delete(self, place: _Place, options: Json | None) -> Json:
        old = self._found("DELETE", place)
        wanted = ((options or {}).get("preconditions") or {}).get("uid")
        if wanted is not None and wanted != old["metadata"]["uid"]:
            status = Status(code=409, reason="Conflict", message="UID in precondition differs")
            raise refusal(f"DELETE {place.plural}", status)
        if not old["metadata"].get("finalizers"):
            return self._erase(place)
        if "deletionTimestamp" in old["metadata"]:
            return old
        stamp = {"deletionTimestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
        return self._write(place, old | {"metadata": old["metadata"] | stamp})

    def _write(self, at: _Place, new: Json) -> Json:
        old = self._objects.get(at)
        meta = new["metadata"]
        meta.setdefault("uid", f"uid-{self._version}")
        meta.setdefault("generation", 1)
        if old is not None:
            if _plain(old) == _plain(new):
                return old
            meta["uid"] = old["metadata"]["uid"]
            meta["generation"] = old["metadata"]["generation"] + (_spec(old) != _spec(new))
        if "deletionTimestamp" in meta and not meta.get("finalizers"):
            return self._erase(at)
        self._version = next(self._versions)
        meta["resourceVersion"] = str(self._version)
        self._objects[at] = new
        self._tell("ADDED" if old is None else "MODIFIED", at, new)
        return new

    def _erase(self, at: _Place) -> Json:
        gone = deepcopy(self._objects.pop(at))
        self._version = next(self._versions)
        gone["metadata"]["resourceVersion"] = str(self._version)
        self._tell("DELETED", at, gone)
        return gone

    def _tell(self, kind: str, at: _Place, item: Json) -> None:
        self._history.append((self._version, kind, at, deepcopy(item)))
        for watcher in self._watchers:
            if _within(at, watcher.place):
                watcher.reader.feed_data(_line(kind, item))


def _line(kind: str, item: Json) -> bytes:
    return json.dumps({"type": kind, "object": item}).encode() + b"\n"


def _take_apart(path: str) -> _Place:
    parts = path.strip("/").split("/")
    head = 2 if parts[0] == "api" else 3
    root, rest = "/".join(parts[:head]), parts[head:]
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    plural, name, subresource = (*rest, "", "")[:3]
    return _Place(root, plural, namespace, name, subresource)


def _within(at: _Place, collection: _Place) -> bool:
    same = (at.root, at.plural) == (collection.root, collection.plural)
    return same and collection.namespace in ("", at.namespace)


def _plain(item: Json) -> Json:
    metadata = {k: v for k, v in item["metadata"].items() if k != "resourceVersion"}
    return item | {"metadata": metadata}


def _spec(item: Json) -> Json:
    return {k: v for k, v in item.items() if k not in {"metadata", "status"}}


def _merged(old: Json, patch: Mapping[str, Any], *, keyed: bool) -> Json:
    """RFC 7386; when applied, lists of objects with a `type` or `name` merge by it instead."""
    new = deepcopy(old)
    for name, value in patch.items():
        if value is None:
            new.pop(name, None)
        elif isinstance(value, Mapping):
            under = new.get(name)
            new[name] = _merged(under if isinstance(under, dict) else {}, value, keyed=keyed)
        elif keyed and isinstance(value, list) and value and isinstance(value[0], Mapping):
            new[name] = _merged_list(new.get(name) or [], value)
        else:
            new[name] = deepcopy(value)
    return new


def _merged_list(old: list[Json], items: list[Json]) -> list[Json]:
    field = "type" if "type" in items[0] else "name"
    merged = {each.get(field): each for each in old}
    for item in items:
        merged[item.get(field)] = _merged(merged.get(item.get(field), {}), item, keyed=True)
    return list(merged.values())
