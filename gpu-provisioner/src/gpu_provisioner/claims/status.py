"""Reports how far a claim is: one write, and only when it tells something new.

Invariant: a pass over a claim that has not changed writes nothing.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from gpu_provisioner.claims.claim import Claim
from gpu_provisioner.claims.dialect import Dialect, T
from gpu_provisioner.claims.progress import Progress


def news(
    dialect: Dialect[T], claim: Claim, progress: Progress, now: datetime
) -> Mapping[str, Any] | None:
    """The status to write; None when the claim tells all of it already."""
    status = dialect.status(claim, progress, now)
    if all(claim.status.get(name) == value for name, value in status.items()):
        return None
    return status
