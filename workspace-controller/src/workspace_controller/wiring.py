"""Builds the work on one Workspace from settings, caches and what the process shares.

The only place that knows which part needs which: the process and the tests that make passes by hand
build the same thing.
"""

from controlkit.clock import Clock
from controlkit.kube.client import KubeClient
from workspace_controller.caches import Caches
from workspace_controller.manifests.model import ModelSource
from workspace_controller.settings import Settings
from workspace_controller.tuning.execute import RunWriter
from workspace_controller.tuning.observe import RunObserver
from workspace_controller.tuning.progress import Heard
from workspace_controller.workspaces.child_writer import ChildWriter
from workspace_controller.workspaces.controller import WorkspacePass
from workspace_controller.workspaces.events import Events
from workspace_controller.workspaces.execute import Executor, Writing
from workspace_controller.workspaces.holding import Hold
from workspace_controller.workspaces.observe import Observer
from workspace_controller.workspaces.sources import SourceReader
from workspace_controller.workspaces.status import Reporter
from workspace_controller.workspaces.target import Knowledge
from workspace_controller.workspaces.unstarted import EventReader
from workspace_controller.workspaces.vetting import Vetting


def workspace_pass(
    settings: Settings,
    client: KubeClient,
    caches: Caches,
    *,
    knowledge: Knowledge,
    events: Events,
    heard: Heard,
    hold: Hold,
    clock: Clock,
) -> WorkspacePass:
    """Observer, executor and reporter of a process that has just started: nothing is remembered."""
    source = ModelSource(
        settings.preset_registry,
        settings.runtime_image_tag,
        settings.hub,
        settings.insecure_registries,
        settings.private_data_urls,
    )
    sources = SourceReader(client, caches.workspaces, knowledge.catalog, clock.now)
    vetting = Vetting()
    writer = ChildWriter(client, caches, source, vetting, hold)
    runs = RunObserver(client, caches, heard, settings.namespace, settings.release_node)
    run_writer = RunWriter(
        client, caches, source, vetting, hold, settings.namespace, settings.tuning_deadline
    )
    writing = Writing(settings.node_class, azure=settings.cloud == "azure")
    return WorkspacePass(
        client=client,
        caches=caches,
        observer=Observer(
            client,
            caches,
            knowledge,
            settings.claims,
            sources,
            vetting,
            EventReader(client, clock.now),
            clock.now,
            runs,
            settings.deadlines,
        ),
        executor=Executor(client, caches, writing, writer, run_writer, events, hold),
        reporter=Reporter(client, caches.workspaces, events, hold, clock.monotonic),
    )
