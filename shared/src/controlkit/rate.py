"""A token bucket that tells how long to wait.

Invariant: over any span, no more than burst + rate times span tokens have come due.
"""


class TokenBucket:
    """Pays out tokens, in advance if need be."""

    def __init__(self, *, rate: float, burst: float) -> None:
        """A full bucket.

        Args:
            rate: tokens that flow in, a second.
            burst: tokens that it holds.
        """
        self._each = 1 / rate
        self._slack = (burst - 1) / rate
        self._paid_until = float("-inf")

    def reserve(self, now: float) -> float:
        """Takes a token; returns the seconds until it is there.

        Args:
            now: seconds by a monotonic clock.
        """
        due = max(self._paid_until, now)
        self._paid_until = due + self._each
        return max(0.0, due - now - self._slack)

    def take(self, now: float) -> bool:
        """Takes a token if it is there."""
        if max(self._paid_until, now) - now > self._slack:
            return False
        self.reserve(now)
        return True
