"""Claims whose VM may go, and those whose VM is gone.

Invariant: kept in memory only. A claim that leaves asks again on every pass, so after a restart all
of it is found out anew.
"""

from controlkit.clock import Clock


class Departures:
    """What claims that are being deleted and what pools have told each other."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._asked: dict[str, float] = {}
        self._gone: set[str] = set()

    def ask(self, uid: str) -> bool:
        """A claim is done with its VM; returns whether that is news."""
        news = uid not in self._asked
        self._asked.setdefault(uid, self._clock.monotonic())
        return news

    def asked(self, uid: str) -> float | None:
        """When the claim asked, in monotonic seconds; None when it has not."""
        return self._asked.get(uid)

    def let_go(self, uid: str) -> None:
        """No VM of the claim is left."""
        self._gone.add(uid)

    def gone(self, uid: str) -> bool:
        """Whether no VM of the claim is left."""
        return uid in self._gone

    def forget(self, uid: str) -> None:
        """The claim is gone."""
        self._asked.pop(uid, None)
        self._gone.discard(uid)
