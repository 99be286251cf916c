"""Puts together all that a decision on one claim depends on, from memory.

Invariant: nothing here waits for Azure; only the pods of a node that is being drained are asked
for, since nobody else needs them.
"""

from controlkit.clock import Clock
from controlkit.kube.client import KubeClient
from gpu_provisioner.azure.directory import PoolDirectory
from gpu_provisioner.azure.pools import Pool
from gpu_provisioner.binding import belongs, place_of
from gpu_provisioner.claims.actions import Observed, Policy
from gpu_provisioner.claims.claim import Claim
from gpu_provisioner.claims.refusals import Refusals
from gpu_provisioner.nodes.registration import held
from gpu_provisioner.pools.bindings import Bindings
from gpu_provisioner.pools.departures import Departures
from gpu_provisioner.pools.shapes import Shapes
from gpuapis.core import Node, Pod


class Observer:
    """Reads the bindings, the directory of pools and the refusals."""

    def __init__(
        self,
        *,
        client: KubeClient,
        bindings: Bindings,
        directory: PoolDirectory,
        shapes: Shapes,
        refusals: Refusals,
        departures: Departures,
        policy: Policy,
        clock: Clock,
    ) -> None:
        self._client = client
        self._bindings = bindings
        self._directory = directory
        self._shapes = shapes
        self._refusals = refusals
        self._departures = departures
        self._policy = policy
        self._clock = clock

    async def observe(self, claim: Claim) -> Observed:
        """Everything that the decision on this claim depends on.

        Raises:
            ControlError: the pods of a node could not be listed.
        """
        place = place_of(claim)
        pool = self._directory.get(place) if place else None
        ours = pool if pool is not None and belongs(pool, claim) else None
        nodes = self._bindings.of(claim, ours)
        refusals = self._refusals
        return Observed(
            claim=claim,
            now=self._clock.now(),
            wanted=self._shapes.of(claim),
            place=place,
            pool=pool,
            nodes=nodes,
            pods=await self._pods(claim, ours, nodes),
            gone=self._departures.gone(claim.uid),
            view_age=self._directory.age,
            blind=self._directory.trouble,
            refused=refusals.creating(claim),
            undeletable=(
                refusals.deleting_pool(place) if pool is not None else refusals.deleting(claim)
            ),
            policy=self._policy,
        )

    async def _pods(
        self, claim: Claim, pool: Pool | None, nodes: tuple[Node, ...]
    ) -> tuple[Pod, ...]:
        if not claim.deleting or pool is None or pool.state == "Deleting":
            return ()
        if self._departures.gone(claim.uid):
            return ()
        pods: list[Pod] = []
        for node in nodes:
            if held(node):
                selector = f"spec.nodeName={node.metadata.name}"
                pods += (await self._client.list(Pod, field_selector=selector)).items
        return tuple(pods)
