"""What does not fit a type, in sentences that a person who wrote the YAML understands.

Invariant: a sentence names the field as the YAML spells it and the value that was found; no word
of the library that checked gets through.
"""

import reprlib
from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic import ValidationError

MOST_SHOWN: Final = 80
_TYPES: Final[Mapping[str, str]] = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "mapping_type": "an object",
}
_BOUNDS: Final[Mapping[str, tuple[str, str]]] = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
}


_BRIEF: Final = reprlib.Repr()
_BRIEF.maxlevel = 2
_BRIEF.maxstring = _BRIEF.maxother = _BRIEF.maxlong = 2 * MOST_SHOWN


def shown(value: object) -> str:
    """A value as a sentence quotes it, cut where it is long.

    No more of it is looked at than is shown: YAML's aliases can make a few lines endless.
    """
    text = repr(value[:MOST_SHOWN]) if isinstance(value, str) else _BRIEF.repr(value)
    cut = len(text) > MOST_SHOWN or (isinstance(value, str) and len(value) > MOST_SHOWN)
    return f"{text[: MOST_SHOWN - 1]}…" if cut else text


def complaints(error: ValidationError, *above: str | int) -> list[tuple[str, str]]:
    """Every misfit as the field's path and the rest of the sentence, in the order found.

    Args:
        error: what pydantic found.
        above: the path of what was read, such as `"inference", "template"`.
    """
    found = error.errors(include_url=False)
    places = [each["loc"] for each in found]
    return [
        (path(*above, *each["loc"]), _said(each["type"], each.get("input"), each.get("ctx") or {}))
        for each in found
        # A list is said to be short when what it holds does not fit: its entries say it better.
        if not any(place[: len(each["loc"])] == each["loc"] != place for place in places)
    ]


def path(*parts: str | int) -> str:
    """`containers[0].image` from its parts."""
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def _said(kind: str, value: object, facts: Mapping[str, Any]) -> str:
    if kind in _TYPES:
        return f"is {shown(value)}; it must be {_TYPES[kind]}"
    if kind in _BOUNDS:
        words, bound = _BOUNDS[kind]
        return f"is {shown(value)}; allowed: {words} {facts[bound]}"
    if kind in _SAID:
        return _SAID[kind](value, facts)
    return f"is {shown(value)}, which cannot be used here"


_SAID: Final[Mapping[str, Callable[[object, Mapping[str, Any]], str]]] = {
    "missing": lambda _value, _facts: "is missing",
    "none_required": lambda value, _: f"is {shown(value)}; it must be left out",
    "literal_error": lambda value, facts: f"is {shown(value)}; allowed: {facts['expected']}",
    "string_pattern_mismatch": lambda value, facts: (
        f"is {shown(value)}; it must look like {facts['pattern']}"
    ),
    "string_too_short": lambda _value, _facts: "is empty",
    "string_too_long": lambda _, facts: (
        f"is too long; at most {facts['max_length']} characters are allowed"
    ),
    "too_short": lambda _, facts: (
        f"has {facts['actual_length']} entries; at least {facts['min_length']} is needed"
    ),
    "too_long": lambda _, facts: f"has too many entries; at most {facts['max_length']} are allowed",
}
