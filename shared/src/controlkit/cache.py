"""A typed, indexed, in-memory copy of a collection, kept current by a reflector.

Invariant: objects are immutable, indexes always agree with them, and every difference between two
states of the cache reaches each subscriber once, a deletion that nobody saw happen included.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Generic, TypeVar

from controlkit.kube.objects import Key, KubeObject

T = TypeVar("T", bound=KubeObject)

Handler = Callable[[T | None, T | None], None]
Index = Callable[[T], Iterable[str]]


class Cache(Generic[T]):
    """The objects of one kind that a reflector follows.

    Attributes:
        view: the class of the objects.
        synced: set once the first list is in, or the kind is known not to be served.
        served: False while the API server does not serve this kind.
    """

    def __init__(
        self, view: type[T], *, indexes: Mapping[str, Index[T]] = MappingProxyType({})
    ) -> None:
        self.view = view
        self.synced = asyncio.Event()
        self.served = True
        self._version = 0
        self._objects: dict[Key, T] = {}
        self._indexers = dict(indexes)
        self._indexed: dict[str, dict[str, dict[Key, T]]] = {name: {} for name in indexes}
        self._handlers: list[Handler[T]] = []

    def __len__(self) -> int:
        return len(self._objects)

    def get(self, key: Key) -> T | None:
        """The object of that name, if there is one."""
        return self._objects.get(key)

    def all(self) -> list[T]:
        """Every object, in no particular order."""
        return list(self._objects.values())

    def by_index(self, index: str, value: str) -> list[T]:
        """The objects for which the index yielded that value.

        Raises:
            KeyError: the cache has no such index.
        """
        return list(self._indexed[index].get(value, {}).values())

    def subscribe(self, handler: Handler[T]) -> None:
        """Calls `handler(old, new)` for every change from now on, and for each object there is.

        Handlers run inside the write and must neither block nor fail.
        """
        self._handlers.append(handler)
        for item in self.all():
            handler(None, item)

    def shows(self, key: Key, resource_version: str) -> bool:
        """Whether the cache is at least that new for that object, or has seen it deleted.

        The API server orders all changes of a kind, so having passed the version is enough.
        """
        version = _number(resource_version)
        held = self._objects.get(key)
        return version <= self._version or (
            held is not None and version <= _number(held.metadata.resource_version)
        )

    def replace(self, items: Iterable[T], resource_version: str) -> None:
        """Becomes a fresh list; what is missing from it counts as deleted."""
        self._version = _number(resource_version)
        fresh = {item.key: item for item in items}
        for key in [key for key in self._objects if key not in fresh]:
            self._put(key, None)
        for key, item in fresh.items():
            self._put(key, item)
        self.synced.set()

    def upsert(self, item: T) -> None:
        """Takes in a new or changed object."""
        self.advance(item.metadata.resource_version)
        self._put(item.key, item)

    def remove(self, item: T) -> None:
        """Forgets a deleted object; its resourceVersion is that of the deletion."""
        self.advance(item.metadata.resource_version)
        self._put(item.key, None)

    def advance(self, resource_version: str) -> None:
        """Notes that every change up to this version is in."""
        self._version = max(self._version, _number(resource_version))

    def _put(self, key: Key, new: T | None) -> None:
        old = self._objects.get(key)
        if old is new or (old and new and _same(old, new)):
            return
        if old is not None:
            del self._objects[key]
            self._unindex(key, old)
        if new is not None:
            self._objects[key] = new
            self._index(key, new)
        for handler in self._handlers:
            handler(old, new)

    def _index(self, key: Key, item: T) -> None:
        for name, indexer in self._indexers.items():
            for value in indexer(item):
                self._indexed[name].setdefault(value, {})[key] = item

    def _unindex(self, key: Key, item: T) -> None:
        for name, indexer in self._indexers.items():
            entries = self._indexed[name]
            for value in set(indexer(item)):
                del entries[value][key]
                if not entries[value]:
                    del entries[value]


def _same(old: KubeObject, new: KubeObject) -> bool:
    version = new.metadata.resource_version
    return bool(version) and version == old.metadata.resource_version


def _number(resource_version: str) -> int:
    """Versions are decimal numbers, comparable within a kind; none at all is older than any."""
    return int(resource_version) if resource_version.isdigit() else 0
