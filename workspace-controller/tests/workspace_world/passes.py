"""What passes made by hand stand on: an API server in memory, its caches, a clock, kept Events."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from controlkit.cache import Cache
from controlkit.kube.client import KubeClient
from controlkit_testing import KeptEvents, MemoryApi
from gpuapis import labels
from gpuapis.machine import Machine
from gpuapis.nodeclaim import NodeClaim
from workspace_controller.caches import Caches
from workspace_controller.presets.catalog import catalog
from workspace_controller.settings import Settings
from workspace_controller.skus.table import sku_table
from workspace_controller.tuning.progress import Heard
from workspace_controller.wiring import workspace_pass
from workspace_controller.workspaces.controller import WorkspacePass
from workspace_controller.workspaces.events import Events
from workspace_controller.workspaces.holding import Hold
from workspace_controller.workspaces.target import Knowledge

RELEASE = "kaito-workspace"
SIZE = "Standard_NC6s_v3"
READY = ("MachineLaunched", "MachineRegistered", "MachineInitialized", "Ready")


@dataclass
class Hands:
    """A clock that a test sets by hand."""

    at: datetime

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()

    async def sleep(self, seconds: float) -> None:
        raise AssertionError(f"a pass slept {seconds} s")


def new_pass(
    client: KubeClient,
    caches: Caches,
    *,
    told: KeptEvents,
    hold: Hold,
    clock: Hands,
    heard: Heard,
    **asked: Any,
) -> WorkspacePass:
    """The work of a process that has just started, with the settings that are asked for."""
    settings = Settings(
        preset_registry="example.com/gpu", runtime_image_tag="1", namespace=RELEASE, **asked
    )
    knowledge = Knowledge(catalog(), sku_table("azure"), byo=settings.claims == "byo")
    return workspace_pass(
        settings,
        client,
        caches,
        knowledge=knowledge,
        events=Events(told),
        heard=heard,
        hold=hold,
        clock=clock,
    )


def sync(api: MemoryApi, caches: Iterable[Cache[Any]], now: datetime) -> None:
    """Brings caches up to date, as reflectors would; claims are as old as their first look."""
    for view in (Machine, NodeClaim):
        for found in api.all(view.RESOURCE):
            if "creationTimestamp" not in found["metadata"]:
                found["metadata"]["creationTimestamp"] = now.isoformat()
                api.put(view.RESOURCE, found)
    for cache in caches:
        fill(cache, api)


def fill(cache: Cache[Any], api: MemoryApi) -> None:
    """Brings one cache up to date."""
    view = cache.view
    cache.replace([view.model_validate(found) for found in api.all(view.RESOURCE)], "1")


def provisioned(machine: dict[str, Any], node: str, now: datetime) -> dict[str, Any]:
    """A Machine whose node is ready."""
    conditions = [
        {"type": kind, "status": "True", "lastTransitionTime": now.isoformat()} for kind in READY
    ]
    return machine | {"status": {"nodeName": node, "conditions": conditions}}


def ready_node(name: str, marks: dict[str, str], **status: Any) -> dict[str, Any]:
    """A Node of one GPU; `status` replaces parts of its status."""
    healthy = {
        "allocatable": {labels.GPU_RESOURCE: "1"},
        "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
    }
    metadata = {"name": name, "labels": marks | {labels.INSTANCE_TYPE: SIZE}}
    return {"metadata": metadata, "status": healthy | status}
