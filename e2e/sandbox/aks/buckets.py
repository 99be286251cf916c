"""The token buckets by which AKS throttles a subscription.

Invariant: a bucket never holds more than its burst, and a refused call takes no token, so a client
that waits as told is served.
"""

import math
from typing import Final

from sandbox.aks.document import Document
from sandbox.aks.records import Moment


class Limit(Document):
    """A bucket's size, its refill in tokens per emulated second, and AKS's name for it."""

    burst: float
    refill: float
    handler: str


PUT_POOL: Final = "putAgentPool"
OPERATION: Final = "operationStatus"
CLUSTER: Final = "getManagedCluster"
OTHER: Final = "other"

# https://learn.microsoft.com/azure/aks/quotas-skus-regions#throttling-limits-on-aks-resource-provider-apis
LIMITS: Final = {
    PUT_POOL: Limit(burst=20, refill=1 / 60, handler="PutAgentPoolHandler.PUT"),
    OPERATION: Limit(burst=200, refill=2, handler="GetOperationStatusHandler.GET"),
    CLUSTER: Limit(burst=60, refill=1, handler="GetManagedClusterHandler.GET"),
    # The stricter reading of "all other APIs": they share one bucket.
    OTHER: Limit(burst=60, refill=1, handler="AgentPoolHandler"),
}


_ROUNDING: Final = 1e-6


class Bucket(Document):
    """How full a bucket was at a moment."""

    tokens: float
    at: Moment


class Buckets:
    """All buckets of the subscription."""

    def __init__(self, levels: dict[str, Bucket]) -> None:
        self.levels = levels

    def take(self, name: str, now: Moment, speed: float) -> int | None:
        """Takes a token; returns None, or the seconds after which there is one again."""
        limit = LIMITS[name]
        tokens = self.level(name, now, speed)
        if tokens > 1 - _ROUNDING:
            self.levels[name] = Bucket(tokens=max(0.0, tokens - 1), at=now)
            return None
        self.levels[name] = Bucket(tokens=tokens, at=now)
        return max(1, math.ceil((1 - tokens) / (limit.refill * speed) - _ROUNDING))

    def level(self, name: str, now: Moment, speed: float) -> float:
        """Returns how many tokens there are."""
        limit = LIMITS[name]
        last = self.levels.get(name)
        if last is None:
            return limit.burst
        gained = max(0.0, now - last.at) * limit.refill * speed
        return min(limit.burst, last.tokens + gained)
