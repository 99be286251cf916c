"""Finds the name that a mistyped one most likely meant.

Invariant: it suggests a name that exists, or nothing.
"""

import difflib
from collections.abc import Iterable


def nearest(typed: str, names: Iterable[str]) -> str | None:
    """The likeliest of the names, without regard to case; None when none is like it.

    A beginning that somebody stopped typing counts before all else; of several names that begin so,
    the first that is given.
    """
    by_lower = {name.lower(): name for name in names}
    wanted = typed.lower()
    begun = [lower for lower in by_lower if wanted and lower.startswith(wanted)]
    close = begun or difflib.get_close_matches(wanted, by_lower, n=1)
    return by_lower[close[0]] if close else None
