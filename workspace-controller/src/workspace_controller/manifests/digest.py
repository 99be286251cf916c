"""The hash by which a child says which wish it was built from.

Invariant: the hash covers what the user wrote, not what we build from it, so that an upgrade of the
operator, which may build differently, restarts no running model; an edit by the user does.
"""

import hashlib
import json
from typing import Any


def digest(*parts: Any) -> str:
    """Sixteen hex digits over JSON values, independent of the order of keys."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
