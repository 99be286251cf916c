"""What Azure last said no to, for as long as that has to be waited out.

Invariant: nothing here is needed to be right, only to be polite: without it a claim would be tried
again at once. After a restart the claims' own conditions stand in for it.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Final

from controlkit.clock import Clock
from gpu_provisioner.azure.courses import CLUSTER_WIDE, Kind
from gpu_provisioner.azure.errors import Failure
from gpu_provisioner.azure.pools import Pool
from gpu_provisioner.claims.actions import Refusal
from gpu_provisioner.claims.claim import Claim
from gpu_provisioner.claims.progress import NEXT_TRY

_RECOVERED: Final[dict[str, Kind]] = {
    "QuotaExceeded": "quota",
    "InsufficientCapacity": "capacity",
    "InstanceTypeUnavailable": "size",
}
"""Reasons on a claim that tell the kind of failure beyond doubt."""

OURS: Final[frozenset[Kind]] = frozenset({"queued", "limit"})
"""Refusals that we gave ourselves, and look at again whenever anything changes."""

_MAY_HAVE_PASSED: Final[frozenset[Kind]] = CLUSTER_WIDE | {"forbidden", "transient"}
"""Kinds that have probably passed when Azure answers after it did not."""


class Refusals:
    """The refusals that are being waited out, by claim."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._creating: dict[str, tuple[int, Refusal]] = {}
        self._deleting: dict[str, Refusal] = {}

    def creating(self, claim: Claim) -> Refusal | None:
        """What Azure said when the claim's pool was to be made."""
        noted = self._creating.get(claim.uid)
        if noted is None:
            return self._recovered(claim)
        generation, refusal = noted
        # Somebody has edited the claim since: that may have been the cure.
        return refusal if generation == claim.generation else None

    def deleting(self, claim: Claim) -> Refusal | None:
        """What Azure said when the end of the claim's pool was to be confirmed."""
        return self._deleting.get(claim.uid)

    def deleting_pool(self, name: str) -> Refusal | None:
        """What Azure said when a pool, or a VM of it, was to be deleted."""
        return self._deleting.get(name)

    def note_creation(self, claim: Claim, failure: Failure) -> Refusal:
        """Has a failure to make the pool waited out, longer the more often it comes in a row."""
        refusal = self._next(self.creating(claim), failure)
        self._creating[claim.uid] = (claim.generation, refusal)
        return refusal

    def note_deletion(self, claim: Claim, failure: Failure) -> Refusal:
        """Has a failure to learn that the claim's pool is gone waited out likewise."""
        self._deleting[claim.uid] = refusal = self._next(self.deleting(claim), failure)
        return refusal

    def note_pool(self, name: str, failure: Failure, pool: Pool | None) -> Refusal:
        """Has a failure to delete a pool, or a VM of it, waited out likewise."""
        busy = failure.kind == "conflict" and pool is not None and pool.state == "InProgress"
        refusal = replace(self._next(self.deleting_pool(name), failure), pool_busy=busy)
        self._deleting[name] = refusal
        return refusal

    def forget_pool(self, name: str) -> None:
        """What could not be deleted is going, or gone."""
        self._deleting.pop(name, None)

    def forget_turn(self, uid: str) -> None:
        """The claim's turn has come."""
        noted = self._creating.get(uid)
        if noted is not None and noted[1].failure.kind in OURS:
            del self._creating[uid]

    def forget(self, uid: str) -> None:
        """The claim has its node, or is gone."""
        self._creating.pop(uid, None)
        self._deleting.pop(uid, None)

    def forgive(self) -> frozenset[str]:
        """Azure lists pools again: forgets what that ends; returns uids of claims, names of pools."""
        over = frozenset(
            uid for uid, each in self._noted() if each.failure.kind in _MAY_HAVE_PASSED
        )
        for uid in over:
            self.forget(uid)
        return over

    def try_once_more(self) -> frozenset[str]:
        """Azure lists pools as before: ends the first wait for what is at odds with that.

        What is met again all the same concerns only some calls, and is waited out.

        Returns:
            Uids of claims and names of pools.
        """
        now = self._clock.now()
        doubtful = frozenset(
            uid
            for uid, each in self._noted()
            if each.failure.kind in CLUSTER_WIDE and each.attempts == 1 and each.until > now
        )
        for uid in doubtful & self._creating.keys():
            generation, refusal = self._creating[uid]
            self._creating[uid] = (generation, replace(refusal, until=now))
        for uid in doubtful & self._deleting.keys():
            self._deleting[uid] = replace(self._deleting[uid], until=now)
        return doubtful

    def _noted(self) -> Iterator[tuple[str, Refusal]]:
        yield from ((uid, refusal) for uid, (_, refusal) in self._creating.items())
        yield from self._deleting.items()

    def _next(self, before: Refusal | None, failure: Failure) -> Refusal:
        again = before is not None and before.failure.kind == failure.kind
        attempts = before.attempts + 1 if before is not None and again else 1
        until = self._clock.now() + timedelta(seconds=failure.wait(attempts))
        return Refusal(failure, attempts, until)

    def _recovered(self, claim: Claim) -> Refusal | None:
        told = claim.conditions.get("Launched")
        kind = _RECOVERED.get(told.reason) if told is not None else None
        if told is None or kind is None or told.status == "True":
            return None
        failure = Failure(kind, told.message.partition(NEXT_TRY)[0])
        since = told.since or self._clock.now()
        refusal = Refusal(failure, 1, since + timedelta(seconds=failure.wait(1)))
        # Kept, since what we tell next will look younger than the refusal is.
        self._creating[claim.uid] = (claim.generation, refusal)
        return refusal
