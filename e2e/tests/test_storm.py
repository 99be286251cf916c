import asyncio
import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from controlkit.cache import Cache
from controlkit.kube.client import KubeClient
from controlkit.kube.objects import Key
from controlkit.kube.reflector import Reflector
from gpuapis.core import Node
from gpuapis.machine import Machine
from gpuapis.nodeclaim import NodeClaim
from gpuapis.workspace import Workspace
from sandbox.bench import crowd
from sandbox.bench.fulfiller import AnyClaim, Fulfiller, node_of, status_of
from sandbox.bench.readings import Cost, Readings, report
from sandbox.bench.writes import counted
from sandbox.controlplane import ControlPlane


def claim(view: type[AnyClaim], name: str = "wsabc") -> AnyClaim:
    manifest: dict[str, Any] = {
        "apiVersion": view.RESOURCE.api_version,
        "kind": view.RESOURCE.kind,
        "metadata": {"name": name, "labels": {"kaito.sh/workspace": "w"}},
        "spec": {
            "requirements": [
                {"key": "node.kubernetes.io/instance-type", "operator": "In", "values": ["big"]},
                {"key": "zone", "operator": "Exists"},
            ],
            "resources": {"requests": {"nvidia.com/gpu": "2"}},
            "taints": [{"key": "sku", "value": "gpu", "effect": "NoSchedule"}],
        },
    }
    if view is NodeClaim:
        reference = {"group": "kaito.sh", "kind": "KaitoNodeClass", "name": "default"}
        manifest["spec"]["nodeClassRef"] = reference
    return view.model_validate(manifest)


def workspace(name: str, *true: str) -> Workspace:
    conditions = [{"type": each, "status": "True", "reason": "x"} for each in true]
    manifest = crowd.workspace(0) | {"status": {"conditions": conditions}}
    manifest["metadata"]["name"] = name
    return Workspace.model_validate(manifest)


async def seen(
    client: KubeClient, view: type[Machine], key: Key, so: Callable[[Machine], object]
) -> Machine:
    """The object once it is as wanted."""
    while True:
        found = await client.get(view, key)
        if found is not None and so(found):
            return found
        await asyncio.sleep(0.02)


def test_a_node_carries_what_its_claim_asks_for() -> None:
    node = node_of(claim(Machine))
    assert node["metadata"]["labels"] == {
        "node.kubernetes.io/instance-type": "big",
        "kaito.sh/workspace": "w",
        "kubernetes.io/hostname": "node-wsabc",
    }
    assert node["status"]["allocatable"]["nvidia.com/gpu"] == "2"
    assert node["spec"]["taints"] == [{"key": "sku", "value": "gpu", "effect": "NoSchedule"}]


@pytest.mark.parametrize(
    ("view", "steps"),
    [
        (Machine, ["MachineLaunched", "MachineRegistered", "MachineInitialized", "Ready"]),
        (NodeClaim, ["Launched", "Registered", "Initialized", "Ready"]),
    ],
)
def test_a_claim_goes_through_the_steps_of_its_dialect(
    view: type[AnyClaim], steps: list[str]
) -> None:
    served = claim(view)
    conditions: list[dict[str, Any]] = status_of(served, node_of(served))["conditions"]
    assert [each["type"] for each in conditions] == steps


@pytest.mark.control_plane
async def test_a_claim_gets_its_node_after_the_set_time(
    control_plane: ControlPlane, apply_crds: list[str]
) -> None:
    async with await KubeClient.connect(
        user_agent="test", field_manager="test", kubeconfig=control_plane.kubeconfig
    ) as client:
        cache = Cache(Machine)
        fulfiller = Fulfiller(client, seconds=0.5)
        fulfiller.follow(cache)
        name = f"ws{os.getpid()}"
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(Reflector(client, cache).run()),
                group.create_task(fulfiller.run()),
            ]
            await cache.synced.wait()
            made = claim(Machine, name).manifest()
            await client.create(Machine.RESOURCE, made)
            started = asyncio.get_running_loop().time()
            served = await seen(client, Machine, Key("", name), lambda it: it.status.node_name)
            assert asyncio.get_running_loop().time() - started >= 0.4
            node = await client.get(Node, Key("", f"node-{name}"))
            assert (node is not None and node.ready, served.status.node_name) == (
                True,
                f"node-{name}",
            )
            for task in tasks:
                task.cancel()


async def test_readings_note_the_first_time_and_end_with_the_last_workspace() -> None:
    readings, workspaces, claims = Readings(2), Cache(Workspace), Cache(Machine)
    readings.follow(workspaces, claims)
    readings.start()
    workspaces.upsert(workspace("a", "ResourceReady", "WorkspaceReady"))
    first = readings.reached["WorkspaceReady"]["default/a"]
    workspaces.upsert(workspace("b", "ResourceReady"))
    assert not readings.done.is_set()
    workspaces.upsert(workspace("a", "ResourceReady", "WorkspaceReady"))
    workspaces.upsert(workspace("b", "ResourceReady", "WorkspaceReady"))
    assert readings.done.is_set()
    assert readings.reached["WorkspaceReady"]["default/a"] == first


def test_the_report_counts_what_is_missing_and_what_is_too_much() -> None:
    readings = Readings(2)
    readings.claims = {"a": 1.0, "b": 2.0, "c": 2.5}
    readings.reached["ResourceReady"] = {"a": 30.0, "b": 34.0}
    readings.reached["WorkspaceReady"] = {"a": 31.0}
    written = Counter({"workspaces/status": 7, "events": 12})
    rows = report(readings, 0.5, Cost(50, 1.0), Cost(80, 3.5), written).splitlines()
    told = {row[:24].strip(): row[24:].strip() for row in rows}
    assert told == {
        "Workspaces applied": "2 within 0.5 s",
        "claims created p50 / max": "2.0 s / 2.5 s",
        "ResourceReady p50 / max": "32.0 s / 34.0 s",
        "Ready p50 / max": "31.0 s / 31.0 s, but only 1 of 2",
        "surplus claims": "1",
        "controller RSS peak": "80 MB",
        "controller CPU": "2.5 s",
        "status writes, each": "3.5",
        "Events, each, of all": "6.0",
    }


def test_the_cost_of_a_process_comes_from_the_kernel() -> None:
    cost = Cost.of(os.getpid())
    assert 5 < cost.rss_peak < 4000
    assert cost.cpu > 0


def test_writes_are_counted_by_kind_and_reads_and_leases_are_not() -> None:
    labels = 'code="200",component="apiserver",dry_run="{dry}",group="g",resource="{resource}",'
    labels += 'scope="resource",subresource="{part}",verb="{verb}",version="v1"'

    def line(resource: str, verb: str, value: str, part: str = "", dry: str = "") -> str:
        about = labels.format(resource=resource, verb=verb, part=part, dry=dry)
        return f"apiserver_request_total{{{about}}} {value}"

    page = "\n".join(
        [
            line("workspaces", "PATCH", "3", "status"),
            line("workspaces", "PATCH", "1"),
            line("machines", "POST", "1e+02"),
            line("machines", "GET", "7"),
            line("machines", "POST", "5", dry="All"),
            line("leases", "PUT", "99"),
        ]
    )
    assert counted(page) == {"workspaces/status": 3, "workspaces": 1, "machines": 100}


@pytest.mark.control_plane
async def test_the_storms_workspaces_fit_the_schema(
    control_plane: ControlPlane, apply_crds: list[str], namespace: str
) -> None:
    manifest = crowd.workspace(7)
    manifest["metadata"]["namespace"] = namespace
    path = f"/apis/kaito.sh/v1alpha1/namespaces/{namespace}/workspaces?dryRun=All"
    made = await control_plane.admin.call("POST", path, manifest)
    assert made["metadata"]["name"] == "storm-0007"
