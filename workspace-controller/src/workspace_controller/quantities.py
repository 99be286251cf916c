"""Quantities with their units: sizes as exact bytes, durations as whole minutes.

Invariant: sizes are compared as whole bytes, so no rounding can refuse what fits or admit what
does not; a figure of our own data without a unit is an error.
"""

import re
from datetime import timedelta
from fractions import Fraction
from typing import Annotated, Any, Final

from pydantic import BeforeValidator

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


def to_size(text: Any) -> int:
    """The bytes of a size in our own data, such as `50Gi`, where a unit has to be written.

    Raises:
        ValueError: not a size, or one without unit.
    """
    if not isinstance(text, str) or not text.endswith("i"):
        raise ValueError(f"{text!r} has no binary unit: write Ki, Mi or Gi, such as 50Gi")
    return to_bytes(text)


def to_minutes(text: Any) -> timedelta:
    """`30m` as a duration.

    Raises:
        ValueError: not whole minutes, or without unit.
    """
    match = re.fullmatch(r"(\d+)m", text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"{text!r} is not a duration: write whole minutes, such as 30m")
    return timedelta(minutes=int(match[1]))


Size = Annotated[int, BeforeValidator(to_size)]
Minutes = Annotated[timedelta, BeforeValidator(to_minutes)]
