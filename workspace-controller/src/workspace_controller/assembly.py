"""Puts the process together: caches, controller, webhook, servers, in one manager.

Invariant: every replica keeps warm caches and answers admission, health and metrics; only the
leader works on Workspaces.
"""

import asyncio
from datetime import date
from functools import partial
from typing import Any

from prometheus_client import REGISTRY

from controlkit.cache import Cache
from controlkit.certificates import WebhookCertificate
from controlkit.clock import SystemClock
from controlkit.controller import Controller, Result
from controlkit.events import EventRecorder
from controlkit.kube.client import KubeClient
from controlkit.kube.objects import Key
from controlkit.leader import LeaderElector, unique_identity
from controlkit.manager import Manager
from controlkit.server import health_app, serve
from workspace_controller.caches import Caches
from workspace_controller.presets.catalog import catalog
from workspace_controller.settings import LEASE, VERSION, Settings
from workspace_controller.skus.table import sku_table
from workspace_controller.tuning.progress import Heard, ProgressPoller
from workspace_controller.webhooks.app import admission_app
from workspace_controller.webhooks.configs import ConfigReader
from workspace_controller.webhooks.review import Judge
from workspace_controller.wiring import workspace_pass
from workspace_controller.workspaces.controller import watch_everything
from workspace_controller.workspaces.events import Events
from workspace_controller.workspaces.metrics import WorkspaceCollector
from workspace_controller.workspaces.target import Knowledge

NAME = "workspace-controller"
CLOCK = SystemClock()


async def run(settings: Settings) -> int:
    """Runs the controller until a signal or a crash; returns the exit status."""
    agent = f"{NAME}/{VERSION}"
    async with await KubeClient.connect(user_agent=agent, field_manager=NAME) as client:
        return await _manager(settings, client).run()


def _manager(settings: Settings, client: KubeClient) -> Manager:
    knowledge = Knowledge(
        catalog(),
        sku_table(settings.cloud),
        byo=settings.claims == "byo",
        private_urls=settings.private_data_urls,
    )
    leader = None
    if settings.leader_elect:
        leader = LeaderElector(
            client, name=LEASE, namespace=settings.namespace, identity=unique_identity()
        )
    caches = Caches()
    # Leases and certificates are never held up by what Workspaces cost.
    paced = client.paced(qps=settings.kube_client_qps, burst=settings.kube_client_burst)
    recorder = EventRecorder(paced, component=NAME)
    heard = Heard()
    controller = _controller(
        settings, paced, caches, knowledge=knowledge, events=Events(recorder), heard=heard
    )
    poller = ProgressPoller(paced, caches, heard, controller.enqueue, CLOCK)
    manager = Manager(leader=leader)
    for reflector in caches.reflectors(paced):
        manager.cached(reflector)
    manager.always("events", recorder.run)
    _serve(settings, client, manager, knowledge)
    manager.leading("workspaces", controller.run)
    manager.leading("tuning progress", poller.run)
    REGISTRY.register(WorkspaceCollector(caches.workspaces))
    return manager


def _controller(
    settings: Settings,
    client: KubeClient,
    caches: Caches,
    *,
    knowledge: Knowledge,
    events: Events,
    heard: Heard,
) -> Controller:
    async def reconcile(key: Key) -> Result:
        return await work.reconcile(key, controller.failures(key))

    controller = Controller("workspace", reconcile, workers=settings.workers)

    def hold(key: Key, cache: Cache[Any], object_key: Key, resource_version: str) -> None:
        controller.hold(key, cache, object_key, resource_version)

    work = workspace_pass(
        settings,
        client,
        caches,
        knowledge=knowledge,
        events=events,
        heard=heard,
        hold=hold,
        clock=CLOCK,
    )
    watch_everything(controller, caches)
    return controller


def _serve(settings: Settings, client: KubeClient, manager: Manager, knowledge: Knowledge) -> None:
    """Adds the servers: admission, health, metrics."""
    certificate = _webhook(settings, client, manager, knowledge) if settings.webhook else None

    def missing() -> list[str]:
        problems = manager.unsynced()
        if certificate is not None and not certificate.ready:
            problems.append("the webhook's certificate is not loaded yet")
        return problems

    app = health_app(manager.dead, missing)
    for name, address in (
        ("health server", settings.health_address),
        ("metrics server", settings.metrics_address),
    ):
        host, _, port = address.rpartition(":")
        manager.always(name, partial(serve, app, host=host, port=int(port)))


def _webhook(
    settings: Settings, client: KubeClient, manager: Manager, knowledge: Knowledge
) -> WebhookCertificate:
    names, addresses = settings.webhook_hosts
    certificate = WebhookCertificate(
        client,
        secret=Key(settings.namespace, settings.webhook_secret),
        dns_names=names,
        ip_addresses=addresses,
        webhook_configuration=settings.webhook_configuration,
    )
    app = admission_app(Judge(knowledge, _today, ConfigReader(client)))

    async def listen() -> None:
        await serve(app, host="", port=settings.webhook_port, ssl_context=certificate.ssl_context)

    manager.always("webhook certificate", certificate.run)
    manager.always("webhook server", listen)
    return certificate


def _today() -> date:
    return CLOCK.now().date()


def main(settings: Settings) -> int:
    """Runs the event loop around `run`."""
    return asyncio.run(run(settings))
