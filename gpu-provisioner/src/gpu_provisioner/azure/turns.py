"""A token bucket with a line in front of it: who came first is served first.

Invariant: with one bucket per cluster and AKS's own figures in it, AKS never has to refuse us for
asking too often; and when it does ask us to wait, everybody waits.
"""

from collections.abc import Iterable

from controlkit.clock import Clock

_ABSENT_AFTER = 10.0
"""Seconds after which someone who did not come when it was their turn loses their place."""


class Turns:
    """Turns at one kind of request."""

    def __init__(self, *, burst: int, per_second: float, clock: Clock) -> None:
        self._burst = float(burst)
        self._rate = per_second
        self._clock = clock
        self._tokens = self._burst
        self._counted = clock.monotonic()
        self._closed_until = self._counted
        self._line: dict[str, float] = {}
        self._first_sent: float | None = None

    @property
    def rule(self) -> str:
        """The limit in words."""
        return f"{self._burst:g} requests at once, then {self._rate * 60:g} a minute"

    @property
    def left(self) -> float:
        """Tokens that are there now."""
        self._count()
        return self._tokens

    def wait(self, who: str) -> float:
        """Seconds until it is their turn, 0.0 for now; asking takes a place in the line."""
        self._count()
        now = self._counted
        for name in [name for name, due in self._line.items() if due < now]:
            del self._line[name]
        self._line.setdefault(who, now)

        lacking = self.ahead(who) + 1 - self._tokens
        wait = max(lacking / self._rate, self._closed_until - now, 0.0)
        self._line[who] = now + wait + _ABSENT_AFTER
        return wait

    def ahead(self, who: str) -> int:
        """How many come before them in the line."""
        return list(self._line).index(who) if who in self._line else len(self._line)

    def take(self, who: str) -> None:
        """Spends their turn; say `answered` when the request was."""
        self._count()
        if self._tokens >= self._burst:
            self._first_sent = self._counted
        self._tokens -= 1.0
        self.leave(who)

    def answered(self) -> None:
        """Notes that a request has been answered.

        A full bucket begins to refill when the request reaches AKS, not when it left here. Without
        this the one behind the burst would come as much too early as the first one was under way.
        """
        if self._first_sent is not None:
            self._count()
            self._tokens -= (self._counted - self._first_sent) * self._rate
            self._first_sent = None

    def leave(self, who: str) -> None:
        """Gives up their place in the line."""
        self._line.pop(who, None)

    def hand_over(self, who: str, to: str) -> None:
        """Has one who waits leave their place in the line to another."""
        self._line = {to if name == who else name: due for name, due in self._line.items()}

    def pause(self, seconds: float) -> None:
        """Nobody's turn comes before that many seconds have passed."""
        self._count()
        self._closed_until = max(self._closed_until, self._counted + seconds)
        # Whoever waits now waits longer, and is not to lose their place for it.
        self._line = {who: due + seconds for who, due in self._line.items()}

    def replay(self, ages: Iterable[float]) -> None:
        """Counts requests that an earlier process made, told by how many seconds ago they were."""
        tokens, before = self._burst, 0.0
        for age in sorted((max(age, 0.0) for age in ages), reverse=True):
            tokens = min(self._burst, tokens + max(before - age, 0.0) * self._rate) - 1.0
            before = age
        self._count()
        self._tokens = min(self._tokens, tokens + before * self._rate)

    def _count(self) -> None:
        now = self._clock.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._counted) * self._rate)
        self._counted = now
