"""How long requests of one sort are gathered before they are carried out together.

Invariant: pure; what has waited for the longest time allowed, or is as many as can go together, is
never held back, so where just one can go there is no wait at all.
"""

from collections.abc import Iterable

IDLE: float = 1.0
"""Seconds without a newcomer after which no further one is expected."""

MOST: float = 5.0
"""Seconds after which nobody is waited for any more."""


def left(arrivals: Iterable[float], now: float, most: int) -> float:
    """Seconds for which others are still waited for; 0.0 for none.

    Args:
        arrivals: when each came, in monotonic seconds.
        now: likewise.
        most: how many can go together.
    """
    moments = list(arrivals)
    if not moments or len(moments) >= most:
        return 0.0
    return max(0.0, min(max(moments) + IDLE, min(moments) + MOST) - now)
