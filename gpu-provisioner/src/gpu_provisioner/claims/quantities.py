"""Kubernetes quantities, as numbers.

Invariant: exact; a quantity that Kubernetes would refuse is refused here too.
"""

import re
from decimal import Decimal
from typing import Final

_SUFFIXES: Final = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
    "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}
_QUANTITY: Final = re.compile(
    r"(?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?)(?P<suffix>[KMGTPE]i|[numkMGTPE])?"
)


def quantity(text: str | int) -> Decimal:
    """The number that a quantity stands for, such as 125829120 for "120Mi".

    Raises:
        ValueError: the text is no quantity.
    """
    found = _QUANTITY.fullmatch(str(text).strip())
    if found is None:
        raise ValueError(f"{text!r} is not a quantity such as 120Gi")
    return Decimal(found["number"]) * _SUFFIXES[found["suffix"] or ""]
