"""Puts the program together: caches, controllers, collector, servers, and who leads.

Invariant: every replica keeps warm caches and answers probes; only the leader talks to Azure.
"""

import asyncio
import logging
from importlib.metadata import version
from typing import Any, Final

from azure.core import AzureClouds
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from controlkit.cache import Cache
from controlkit.clock import Clock, SystemClock
from controlkit.events import EventRecorder
from controlkit.kube.client import KubeClient
from controlkit.kube.reflector import Reflector
from controlkit.leader import LeaderElector, unique_identity
from controlkit.manager import Manager
from controlkit.server import health_app, serve
from gpu_provisioner.azure.client import AksPools
from gpu_provisioner.azure.credentials import credential
from gpu_provisioner.azure.directory import PoolDirectory
from gpu_provisioner.azure.gateway import Gateway
from gpu_provisioner.azure.pools import Pools
from gpu_provisioner.claims.actions import Policy
from gpu_provisioner.claims.dialect import Dialect
from gpu_provisioner.claims.machine import MachineDialect
from gpu_provisioner.claims.nodeclaim import NodeClaimDialect
from gpu_provisioner.collector.collect import Served
from gpu_provisioner.fleet import Fleet, node_cache
from gpu_provisioner.settings import ClaimApi, Settings
from gpuapis.labels import AGENT_POOL

NAME: Final = "gpu-provisioner"

_DIALECTS: Final[dict[ClaimApi, tuple[Dialect[Any], ...]]] = {
    "machine": (MachineDialect(),),
    "nodeclaim": (NodeClaimDialect(),),
    "both": (MachineDialect(), NodeClaimDialect()),
    "auto": (MachineDialect(), NodeClaimDialect()),
}

_CLOUDS: Final = {
    "AzureCloud": AzureClouds.AZURE_PUBLIC_CLOUD,
    "AzureUSGovernment": AzureClouds.AZURE_US_GOVERNMENT,
    "AzureChinaCloud": AzureClouds.AZURE_CHINA_CLOUD,
}


async def run(settings: Settings) -> int:
    """Runs until a signal or a crash; returns the exit status."""
    agent = f"gpu-provisioner-aks/v{version(NAME)}"
    identity = credential(settings)
    async with (
        identity,
        AksPools(
            identity,
            subscription=settings.subscription_id,
            resource_group=settings.resource_group,
            cluster=settings.cluster_name,
            api_version=settings.arm_api_version,
            user_agent=agent,
            endpoint=settings.arm_endpoint,
            cloud=_CLOUDS[settings.cloud],
            region=settings.location,
            deadline=settings.arm_timeout.total_seconds(),
        ) as pools,
        await KubeClient.connect(
            user_agent=agent, field_manager=NAME, kubeconfig=settings.kubeconfig
        ) as client,
    ):
        return await Service(settings, client, pools, SystemClock()).manager.run()


class Service:
    """All parts of one process, at rest until `manager.run`."""

    def __init__(self, settings: Settings, client: KubeClient, pools: Pools, clock: Clock) -> None:
        self._settings = settings
        self._client = client
        self._clock = clock
        self._gateway = Gateway(
            pools,
            clock,
            burst=settings.arm_write_burst,
            per_minute=settings.arm_writes_per_minute,
        )
        self._nodes = node_cache()
        self._kinds = [
            Served(dialect, Cache(dialect.view)) for dialect in _DIALECTS[settings.claim_api]
        ]
        self.manager = Manager(leader=self._leader())
        self._add_parts()

    def _leader(self) -> LeaderElector | None:
        if not self._settings.leader_elect:
            return None
        return LeaderElector(
            self._client,
            name=self._settings.lease_name,
            namespace=self._settings.lease_namespace,
            identity=unique_identity(),
            clock=self._clock,
        )

    def _add_parts(self) -> None:
        settings, manager = self._settings, self.manager
        events = EventRecorder(self._client, component=NAME, clock=self._clock)
        app = health(manager, self._kinds, self._gateway.directory)
        for name, port in (("health", settings.health_port), ("metrics", settings.metrics_port)):
            manager.always(name, _server(app, settings.bind_address, port))
        manager.always("events", events.run)
        manager.cached(
            Reflector(self._client, self._nodes, label_selector=AGENT_POOL, clock=self._clock)
        )
        for kind in self._kinds:
            manager.cached(Reflector(self._client, kind.cache, optional=True, clock=self._clock))

        fleet = Fleet(
            client=self._client,
            gateway=self._gateway,
            kinds=self._kinds,
            nodes=self._nodes,
            events=events,
            clock=self._clock,
            mode=settings.pool_mode,
            policy=self._policy(),
            empty_pool_delay=settings.empty_pool_delay.total_seconds(),
            collect_period=settings.collect_period.total_seconds(),
        )
        for name, run_part in fleet.runs.items():
            manager.leading(name, run_part)

    def _policy(self) -> Policy:
        settings = self._settings
        return Policy(
            launch_timeout=settings.launch_timeout.total_seconds(),
            registration_timeout=settings.registration_timeout.total_seconds(),
            on_timeout=settings.on_timeout,
            on_insufficient_capacity=settings.on_insufficient_capacity,
            region=settings.location,
        )


def _server(app: Starlette, host: str, port: int) -> Any:
    async def listen() -> None:
        await serve(app, host=host, port=port)

    return listen


def health(manager: Manager, kinds: list[Served], directory: PoolDirectory) -> Starlette:
    """Probes and metrics. Readiness outlives an outage of Azure, but tells of it."""

    def missing() -> list[str]:
        problems = manager.unsynced()
        if not problems and not any(kind.cache.served for kind in kinds):
            wanted = " nor ".join(
                f"{kind.dialect.resource.plural} ({kind.dialect.resource.api_version})"
                for kind in kinds
            )
            problems.append(f"the API server serves neither {wanted}; install a CRD")
        return problems

    async def ready(_request: Request) -> PlainTextResponse:
        problems = missing()
        if problems:
            return PlainTextResponse("\n".join(problems), 503)
        trouble = directory.trouble
        return PlainTextResponse(f"ok, but Azure: {trouble.message}" if trouble else "ok")

    return Starlette(
        routes=[Route("/readyz", ready), Mount("/", health_app(manager.dead, missing))]
    )


def main(settings: Settings) -> int:
    """Runs the event loop around `run`; returns the exit status.

    Raises:
        Rejected: there is no usable Kubernetes configuration.
    """
    # The SDK tells every request at level info.
    logging.getLogger("azure").setLevel(logging.WARNING)
    return asyncio.run(run(settings))
