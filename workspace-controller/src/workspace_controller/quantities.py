"""Kubernetes quantities as exact bytes.

Invariant: sizes are compared as whole bytes, so no rounding can refuse what fits or admit what
does not.
"""

import re
from fractions import Fraction
from typing import Final

_UNITS: Final = {
    "": 1,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "P": 10**15,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
    "Pi": 2**50,
}
_QUANTITY: Final = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<unit>[kMGTP]|[KMGTP]i|)")
GIB: Final = 2**30


def to_bytes(quantity: str) -> int:
    """The whole bytes of a quantity such as `9Gi`, `1500M` or `0`; a fraction rounds up.

    Raises:
        ValueError: not a size; the message names the value and the accepted forms.
    """
    match = _QUANTITY.fullmatch(quantity)
    if match is None:
        raise ValueError(f"{quantity!r} is not a size: write a number and Ki, Mi, Gi, k, M or G")
    exact = Fraction(match["number"]) * _UNITS[match["unit"]]
    return -(-exact.numerator // exact.denominator)


def in_gib(size: int) -> str:
    """A size for a person to read, such as `9 GiB` or `14.5 GiB`."""
    return f"{size / GIB:.1f}".removesuffix(".0") + " GiB"
