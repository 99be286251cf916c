"""What the program measures of its claims.

Invariant: no label holds an object's name.
"""

from datetime import datetime
from typing import Final

from prometheus_client import Counter, Histogram

from gpu_provisioner.claims.claim import Claim
from gpu_provisioner.claims.dialect import STEPS
from gpu_provisioner.claims.progress import Progress

_BUCKETS: Final = (5, 10, 20, 30, 60, 120, 180, 240, 300, 420, 600, 900, 1_800, 3_600)

SECONDS_TO: Final = Histogram(
    "gpu_provisioner_claim_step_seconds",
    "From a claim's creation to a step: Launched, Registered, Initialized.",
    ("kind", "step"),
    buckets=_BUCKETS,
)
FAILURES: Final = Counter(
    "gpu_provisioner_claim_failures_total", "Failures told on claims.", ("kind", "reason")
)
GIVEN_UP: Final = Counter(
    "gpu_provisioner_claims_given_up_total",
    "Claims that the provisioner deleted.",
    ("kind", "reason"),
)
REMOVED: Final = Counter(
    "gpu_provisioner_claims_removed_total", "Claims let go after their pool was gone.", ("kind",)
)


def observe_progress(claim: Claim, progress: Progress, now: datetime) -> None:
    """Notes how long each step took that has just been done."""
    steps = (progress.launched, progress.registered, progress.initialized)
    for aspect, step in zip(STEPS, steps, strict=True):
        if step is not None and step.state == "done" and not claim.is_true(aspect):
            since = claim.created or now
            SECONDS_TO.labels(claim.kind, aspect).observe((now - since).total_seconds())
