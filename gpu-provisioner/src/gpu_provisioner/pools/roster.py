"""All claims that are ours to serve, of every kind, with their places.

Invariant: holds the newest version of each claim that this process has read or written, so that a
decision never rests on a picture that another of our own writes has made old.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from controlkit.cache import Cache
from controlkit.kube.objects import Key
from gpu_provisioner.binding import place_of
from gpu_provisioner.claims.claim import Claim, Kind
from gpu_provisioner.claims.dialect import Dialect

Listener = Callable[[Claim | None, Claim | None], None]
"""Called with a claim as it was and as it is, after either has changed."""


class Roster:
    """Claims by uid, by name, by pool and by node."""

    def __init__(self) -> None:
        self._claims: dict[str, Claim] = {}
        self._named: dict[tuple[Kind, Key], str] = {}
        self._pools: dict[str, dict[str, Claim]] = {}
        self._seats: dict[str, dict[str, Claim]] = {}
        self._listeners: list[Listener] = []
        self._wakers: dict[str, Callable[[Key], None]] = {}

    def follow(self, dialect: Dialect[Any], cache: Cache[Any]) -> None:
        """Takes in what a cache of claims shows from now on."""

        def on_change(old: Any, new: Any) -> None:
            claim = dialect.read(new) if new is not None else None
            if old is not None and (claim is None or claim.uid != old.metadata.uid):
                self.drop(old.metadata.uid)
            if claim is not None:
                self.take_in(claim)

        cache.subscribe(on_change)

    def subscribe(self, listener: Listener) -> None:
        """Calls back after each change."""
        self._listeners.append(listener)

    def woken_by(self, kind: Kind, enqueue: Callable[[Key], None]) -> None:
        """Whom to tell that a claim of a kind should be looked at."""
        self._wakers[kind] = enqueue

    def wake(self, claims: Iterable[Claim]) -> None:
        """Has claims looked at, because something beside them has changed."""
        for claim in claims:
            if (enqueue := self._wakers.get(claim.kind)) is not None:
                enqueue(claim.key)

    def get(self, uid: str) -> Claim | None:
        """The claim of that uid."""
        return self._claims.get(uid)

    def named(self, kind: Kind, key: Key) -> Claim | None:
        """The claim of that kind and name."""
        return self._claims.get(self._named.get((kind, key), ""))

    def all(self) -> list[Claim]:
        """Every claim."""
        return list(self._claims.values())

    def pools(self) -> list[str]:
        """The pools in which any claim has a place."""
        return list(self._pools)

    def members(self, pool: str) -> list[Claim]:
        """The claims that have their place in that pool."""
        return list(self._pools.get(pool, {}).values())

    def seated(self, node: str) -> list[Claim]:
        """The claims that say they are bound to that node."""
        return list(self._seats.get(node, {}).values())

    def take_in(self, claim: Claim) -> None:
        """Takes in a claim, unless a newer version of it is known."""
        old = self._claims.get(claim.uid)
        if old is not None and _number(claim.version) < _number(old.version):
            return
        self._unindex(old)
        self._claims[claim.uid] = claim
        self._named[claim.kind, claim.key] = claim.uid
        if place := place_of(claim):
            self._pools.setdefault(place, {})[claim.uid] = claim
        if claim.seat:
            self._seats.setdefault(claim.seat, {})[claim.uid] = claim
        self._tell(old, claim)

    def wrote(
        self,
        claim: Claim,
        version: str,
        *,
        labels: Mapping[str, str | None],
        annotations: Mapping[str, str | None],
    ) -> None:
        """Takes in what we have just written on a claim: None removes an entry."""
        self.take_in(
            replace(
                claim,
                version=version,
                labels=_merged(claim.labels, labels),
                annotations=_merged(claim.annotations, annotations),
            )
        )

    def drop(self, uid: str) -> None:
        """Takes in that a claim is gone, or not ours any more."""
        old = self._claims.pop(uid, None)
        if old is None:
            return
        self._unindex(old)
        self._named.pop((old.kind, old.key), None)
        self._tell(old, None)

    def _unindex(self, old: Claim | None) -> None:
        if old is None:
            return
        for index, name in ((self._pools, place_of(old)), (self._seats, old.seat)):
            entries = index.get(name)
            if entries is not None:
                entries.pop(old.uid, None)
                if not entries:
                    del index[name]

    def _tell(self, old: Claim | None, new: Claim | None) -> None:
        for listener in self._listeners:
            listener(old, new)


def _merged(old: Mapping[str, str], changes: Mapping[str, str | None]) -> dict[str, str]:
    merged = {**old, **changes}
    return {key: value for key, value in merged.items() if value is not None}


def _number(version: str) -> int:
    return int(version) if version.isdigit() else 0
