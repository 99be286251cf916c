"""The working parts around one gateway to Azure: claims, pools, orders and the collector.

Invariant: all of them share one roster, one set of bindings and one memory of refusals, and none of
them runs before the caches are filled.
"""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from controlkit.cache import Cache
from controlkit.clock import Clock
from controlkit.events import EventRecorder
from controlkit.kube.client import KubeClient
from gpu_provisioner.azure.gateway import Gateway
from gpu_provisioner.claims.actions import Policy
from gpu_provisioner.claims.controller import ClaimController
from gpu_provisioner.claims.execute import Executor
from gpu_provisioner.claims.observe import Observer
from gpu_provisioner.claims.refusals import Refusals
from gpu_provisioner.claims.shape import PoolMode
from gpu_provisioner.collector.collect import PERIOD, Collector, Served
from gpu_provisioner.pools.bindings import INDEXES, Bindings
from gpu_provisioner.pools.controller import PoolController
from gpu_provisioner.pools.departures import Departures
from gpu_provisioner.pools.execute import PoolExecutor
from gpu_provisioner.pools.notes import Notes
from gpu_provisioner.pools.observe import PoolObserver
from gpu_provisioner.pools.orders import Orders
from gpu_provisioner.pools.roster import Roster
from gpu_provisioner.pools.shapes import Shapes
from gpuapis.core import Node

Run = Callable[[], Coroutine[Any, Any, None]]


class Fleet:
    """All parts that only the leader runs, at rest.

    Attributes:
        runs: what to run, by name.
    """

    def __init__(
        self,
        *,
        client: KubeClient,
        gateway: Gateway,
        kinds: Sequence[Served],
        nodes: Cache[Node],
        events: EventRecorder,
        clock: Clock,
        mode: PoolMode = "dedicated",
        policy: Policy | None = None,
        empty_pool_delay: float = 300.0,
        collect_period: float = PERIOD,
    ) -> None:
        """Puts the parts together.

        Args:
            client: of the API server.
            gateway: of Azure.
            kinds: of claims to serve, with their caches.
            nodes: cache of the nodes, with the indexes of `node_cache`.
            events: takes what a person should know.
            clock: measures all waits.
            mode: whether claims share pools.
            policy: what the operator decided.
            empty_pool_delay: seconds for which a shared pool without nodes is kept.
            collect_period: seconds between two looks for what belongs to nobody.
        """
        self._client, self._gateway, self._clock = client, gateway, clock
        self._nodes, self._events = nodes, events
        self._policy = policy or Policy()
        self._caches = [kind.cache for kind in kinds]
        self.roster = Roster()
        for kind in kinds:
            self.roster.follow(kind.dialect, kind.cache)
        self.bindings = Bindings(nodes, self.roster)
        self.shapes = Shapes(mode, gateway.directory)
        self.refusals = Refusals(clock)
        self.departures = Departures(clock)
        resources = {kind.dialect.kind: kind.dialect.resource for kind in kinds}
        self.notes = Notes(client, self.roster, resources)
        self.pools = self._pool_controller(kinds)
        self.orders = Orders(
            gateway=gateway,
            roster=self.roster,
            bindings=self.bindings,
            shapes=self.shapes,
            refusals=self.refusals,
            pools=self.pools,
            notes=self.notes,
            clock=clock,
        )
        self.claims = {kind.dialect.kind: self._claim_controller(kind) for kind in kinds}
        self.collector = Collector(
            client=client,
            gateway=gateway,
            kinds=kinds,
            roster=self.roster,
            nodes=nodes,
            clock=clock,
            locks=self.pools.locks,
            empty_pool_delay=empty_pool_delay,
            period=collect_period,
        )

    @property
    def runs(self) -> Mapping[str, Run]:
        """What to run, by name."""
        return {
            "directory": self._gateway.directory.run,
            "pools": self._after_sync(self.pools.run),
            "orders": self._after_sync(self.orders.run),
            **{kind: controller.run for kind, controller in self.claims.items()},
            "collector": self.collector.run,
        }

    def _after_sync(self, run: Run) -> Run:
        async def start() -> None:
            for cache in (*self._caches, self._nodes):
                await cache.synced.wait()
            await run()

        return start

    def _pool_controller(self, kinds: Sequence[Served]) -> PoolController:
        observer = PoolObserver(
            roster=self.roster,
            directory=self._gateway.directory,
            bindings=self.bindings,
            shapes=self.shapes,
            refusals=self.refusals,
            departures=self.departures,
            policy=self._policy,
            clock=self._clock,
        )
        executor = PoolExecutor(
            client=self._client,
            gateway=self._gateway,
            notes=self.notes,
            observer=observer,
            refusals=self.refusals,
            departures=self.departures,
            dialects=[kind.dialect for kind in kinds],
            clock=self._clock,
        )
        return PoolController(
            gateway=self._gateway,
            roster=self.roster,
            observer=observer,
            executor=executor,
            refusals=self.refusals,
            clock=self._clock,
        )

    def _claim_controller(self, kind: Served) -> ClaimController[Any]:
        return ClaimController(
            kind.dialect,
            kind.cache,
            self._nodes,
            roster=self.roster,
            bindings=self.bindings,
            observer=Observer(
                client=self._client,
                bindings=self.bindings,
                directory=self._gateway.directory,
                shapes=self.shapes,
                refusals=self.refusals,
                departures=self.departures,
                policy=self._policy,
                clock=self._clock,
            ),
            executor=self._executor(),
            directory=self._gateway.directory,
            refusals=self.refusals,
            clock=self._clock,
        )

    def _executor(self) -> Executor:
        return Executor(
            self._client,
            self._gateway,
            self.roster,
            self.departures,
            self._events,
            look_at=self.pools.look,
        )


def node_cache() -> Cache[Node]:
    """An empty cache of nodes, with the indexes that the parts look up."""
    return Cache(Node, indexes=INDEXES)
