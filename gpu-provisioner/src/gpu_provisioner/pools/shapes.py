"""The shape that each claim asks for, worked out once for each version of it.

Invariant: a shape depends on the claim, the operator's mode and the cluster's subnets alone.
"""

from gpu_provisioner.azure.directory import PoolDirectory
from gpu_provisioner.azure.pools import Shape
from gpu_provisioner.claims.claim import Claim
from gpu_provisioner.claims.shape import PoolMode, Unservable, shape_for


class Shapes:
    """Shapes by claim."""

    def __init__(self, mode: PoolMode, directory: PoolDirectory) -> None:
        self.mode = mode
        self._directory = directory
        self._shared: dict[str, Shape] = {}
        self._known: dict[str, tuple[str, tuple[str, str], Shape | str]] = {}

    def of(self, claim: Claim) -> Shape | str:
        """The shape; a text says why there is none."""
        subnets = self._directory.subnets
        known = self._known.get(claim.uid)
        if known is not None and known[:2] == (claim.version, subnets):
            return known[2]
        try:
            found = shape_for(claim, self.mode, subnets)
            # Claims that share a shape share the object, too: there may be thousands of them.
            shape: Shape | str = (
                found if found.most == 1 else self._shared.setdefault(found.key, found)
            )
        except Unservable as problem:
            shape = str(problem)
        self._known[claim.uid] = (claim.version, subnets, shape)
        return shape

    def forget(self, uid: str) -> None:
        """The claim is gone."""
        self._known.pop(uid, None)
