"""Puts together all that a decision on one claim depends on, from memory.

Invariant: nothing here waits for Azure; only the pods of a node that is being drained are asked
for, since nobody else needs them.
"""

from controlkit.cache import Cache
from controlkit.clock import Clock
from controlkit.kube.client import KubeClient
from gpu_provisioner.azure.directory import PoolDirectory
from gpu_provisioner.azure.pools import Pool, PoolSpec
from gpu_provisioner.binding import belongs, pool_name
from gpu_provisioner.claims.actions import Observed, Policy
from gpu_provisioner.claims.claim import Claim
from gpu_provisioner.claims.refusals import Refusals
from gpu_provisioner.claims.shape import Unservable, pool_for
from gpu_provisioner.nodes.registration import held
from gpuapis.core import Node, Pod

BY_POOL = "pool"
"""The index of the node cache that is looked up here."""

MOST_POOLS = 100
"""Agent pools that AKS allows in a cluster."""


class Observer:
    """Reads the caches, the directory of pools and the refusals."""

    def __init__(
        self,
        *,
        client: KubeClient,
        nodes: Cache[Node],
        directory: PoolDirectory,
        refusals: Refusals,
        policy: Policy,
        clock: Clock,
    ) -> None:
        self._client = client
        self._nodes = nodes
        self._directory = directory
        self._refusals = refusals
        self._policy = policy
        self._clock = clock

    async def observe(self, claim: Claim) -> Observed:
        """Everything that the decision on this claim depends on.

        Raises:
            ControlError: the pods of a node could not be listed.
        """
        name = pool_name(claim)
        now = self._clock.now()
        pool = self._directory.get(name)
        nodes = tuple(self._nodes.by_index(BY_POOL, name))
        return Observed(
            claim=claim,
            now=now,
            wanted=self._wanted(claim),
            pool=pool,
            nodes=nodes,
            pods=await self._pods(claim, pool, nodes),
            view_age=self._directory.age,
            blind=self._directory.trouble,
            refused=self._refusals.creating(claim),
            undeletable=self._refusals.deleting(claim),
            crowded=len(self._directory) >= MOST_POOLS,
            policy=self._policy,
        )

    def _wanted(self, claim: Claim) -> PoolSpec | str:
        try:
            return pool_for(claim, self._clock.now(), self._directory.subnets)
        except Unservable as problem:
            return str(problem)

    async def _pods(
        self, claim: Claim, pool: Pool | None, nodes: tuple[Node, ...]
    ) -> tuple[Pod, ...]:
        if not claim.deleting or pool is None or pool.state == "Deleting":
            return ()
        if not belongs(pool, claim):
            return ()
        pods: list[Pod] = []
        for node in nodes:
            if held(node):
                selector = f"spec.nodeName={node.metadata.name}"
                pods += (await self._client.list(Pod, field_selector=selector)).items
        return tuple(pods)
