"""Which node is which claim's.

Invariant: a binding has two halves, the claim names its node and the node its owner, each written
at the version that it was decided on. So no node gets two owners and no claim two nodes, even from
two processes; what is chosen here is only kept from being chosen again meanwhile.
"""

from controlkit.cache import Cache
from controlkit.kube.objects import Key
from gpu_provisioner.azure.pools import Pool
from gpu_provisioner.binding import owners_of, pool_of
from gpu_provisioner.claims.claim import Claim
from gpu_provisioner.nodes.registration import cordoned
from gpu_provisioner.pools.roster import Roster
from gpuapis.core import Node

BY_POOL = "pool"
BY_OWNER = "owner"
BY_FREE = "free"

INDEXES = {
    BY_POOL: lambda node: (pool_of(node),),
    BY_OWNER: owners_of,
    BY_FREE: lambda node: (pool_of(node),) if _unowned(node) else (),
}
"""The indexes of the node cache that are looked up here."""


class Bindings:
    """Finds the nodes of claims, and gives free nodes to claims without one."""

    def __init__(self, nodes: Cache[Node], roster: Roster) -> None:
        self._nodes = nodes
        self._roster = roster
        self._chosen: dict[str, str] = {}
        self._taken: dict[str, str] = {}
        roster.subscribe(self._changed)

    def bound(self, claim: Claim) -> tuple[Node, ...]:
        """The nodes that are the claim's already: those it owns, and the one that it names."""
        found = {node.metadata.name: node for node in self._nodes.by_index(BY_OWNER, claim.uid)}
        named = self._nodes.get(Key("", claim.seat)) if claim.seat else None
        if named is not None and not self._others(named, claim):
            found[claim.seat] = named
        return tuple(found.values())

    def of(self, claim: Claim, pool: Pool | None) -> tuple[Node, ...]:
        """The claim's nodes and, when none of them stays, the free one that it is to have.

        Where one VM was asked for, every free node is returned: if there are several, nobody knows
        which one is meant.
        """
        mine = self.bound(claim)
        if claim.deleting or pool is None:
            return mine
        if pool.count == 1 and not claim.is_true("Launched"):
            alone = self._nodes.by_index(BY_FREE, pool.name)
            return (*mine, *(node for node in alone if node not in mine))
        if any(not node.deleting for node in mine):
            return mine
        return (*mine, *self._free(claim, pool))

    def concerned(self, node: Node) -> list[Claim]:
        """The claims that are to look at a node; a free one is given to the next that lacks one."""
        name, members = node.metadata.name, self._roster.members(pool_of(node))
        uids = (*owners_of(node), self._taken.get(name, ""))
        known = [claim for uid in uids if (claim := self._roster.get(uid)) is not None]
        found = {claim.uid: claim for claim in (*known, *self._roster.seated(name))}
        if not found and _unowned(node):
            seeker = next((claim for claim in members if self.lacking(claim)), None)
            if seeker is not None:
                self._choose(seeker.uid, name)
                found[seeker.uid] = seeker
        return list(found.values()) or (members if len(members) == 1 else [])

    def lacking(self, claim: Claim) -> bool:
        """Whether a claim with a place has never had its node, nor has been given one."""
        if claim.deleting or claim.is_true("Launched") or claim.uid in self._chosen:
            return False
        return not any(not node.deleting for node in self.bound(claim))

    def joining(self, pool: str) -> int:
        """How many nodes of a pool work and have no owner yet."""
        free = self._nodes.by_index(BY_FREE, pool)
        return sum(node.ready and bool(node.spec.provider_id) for node in free)

    def _free(self, claim: Claim, pool: Pool) -> tuple[Node, ...]:
        name = self._chosen.get(claim.uid, "")
        node = self._nodes.get(Key("", name)) if name else None
        if node is not None and _unowned(node) and pool_of(node) == pool.name:
            return (node,)
        free = [each for each in self._nodes.by_index(BY_FREE, pool.name) if self._open(each)]
        if claim.is_true("Launched"):
            # It has had its node; those that never had one come first.
            members = self._roster.members(pool.name)
            if sum(self.lacking(other) for other in members) >= len(free):
                return ()
        if not free:
            return ()
        node = min(free, key=lambda each: each.metadata.name)
        self._choose(claim.uid, node.metadata.name)
        return (node,)

    def _open(self, node: Node) -> bool:
        name = node.metadata.name
        return name not in self._taken and not cordoned(node) and not self._roster.seated(name)

    def _others(self, node: Node, claim: Claim) -> bool:
        return any(uid != claim.uid and self._roster.get(uid) for uid in owners_of(node))

    def _choose(self, uid: str, name: str) -> None:
        self._release(uid)
        self._chosen[uid], self._taken[name] = name, uid

    def _release(self, uid: str) -> None:
        self._taken.pop(self._chosen.pop(uid, ""), None)

    def _changed(self, old: Claim | None, new: Claim | None) -> None:
        """What is written down, or wanted by nobody any more, needs not be kept in mind."""
        if new is None and old is not None:
            self._release(old.uid)
        elif new is not None and new.seat and new.seat == self._chosen.get(new.uid):
            self._release(new.uid)


def _unowned(node: Node) -> bool:
    return not node.deleting and not owners_of(node)
