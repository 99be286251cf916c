"""YAML that people put into ConfigMaps.

Invariant: reading it is bounded in time and memory, and what cannot be read is said in one line.
"""

from collections.abc import Generator, Mapping
from typing import Any, Final

import yaml

MOST_BYTES: Final = 32 * 1024
"""Longer ones would hold up the event loop while they are parsed; real ones have 2 kB."""
MOST_DEPTH: Final = 20
"""Thousands of levels cost as many nested calls; real ones have four."""
LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's parser is ten times as fast as the one in Python; both build plain values only."""


def yaml_map(data: Mapping[str, str], key: str) -> Generator[str, None, dict[Any, Any] | None]:
    """Yields what is wrong with the map under a ConfigMap's key; returns it, or None."""
    text = data.get(key)
    if text is None:
        yield f"it has no key {key}" + (f"; it has {', '.join(sorted(data))}" if data else "")
        return None
    size = len(text.encode())
    if size > MOST_BYTES:
        yield f"{key} has {size} bytes; at most {MOST_BYTES} are read"
        return None
    try:
        if _depth(text) > MOST_DEPTH:
            yield f"{key} is nested more than {MOST_DEPTH} levels deep"
            return None
        content = yaml.load(text, Loader=LOADER)  # noqa: S506  (a safe loader, either way)
    except (yaml.YAMLError, ValueError) as error:
        yield f"{key} is no YAML: {' '.join(str(error).split())[:200]}"
        return None
    if not isinstance(content, dict):
        yield f"{key} must hold a map"
        return None
    return content


def _depth(text: str) -> int:
    """How deep lists and maps are nested, counted no further than is allowed."""
    depth = deepest = 0
    for event in yaml.parse(text, Loader=LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            deepest = max(deepest, depth)
            if depth > MOST_DEPTH:
                break
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    return deepest
