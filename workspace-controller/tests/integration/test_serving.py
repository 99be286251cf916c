"""What serves a model, against a real API server: its workload, its Services, and their changes."""

from collections.abc import Callable
from typing import Any

import pytest
from workspace_world import Bench, ControllerProcess

from controlkit.errors import NotFound
from controlkit.kube.objects import Key
from gpuapis import labels
from gpuapis.core import ConfigMap, Deployment, Event, Pod, Service, StatefulSet
from gpuapis.workspace import Workspace

pytestmark = pytest.mark.control_plane

SERVE_PHI = {"preset": {"name": "phi-3-mini-128k-instruct"}}
CHATTY = {"source": {"name": "chatty", "image": "registry.example.com/team/chatty:1"}}
TERSE = {
    "source": {"name": "terse", "volumeSource": {"persistentVolumeClaim": {"claimName": "terse"}}},
    "strength": "0.5",
}
BIG = {"preset": {"name": "gpt-oss-120b"}}
PAIR = {
    "count": 2,
    "instanceType": "Standard_NC24ads_A100_v4",
    "labelSelector": {"matchLabels": {"apps": "pair"}},
}


async def look(bench: Bench, kind: Any, key: Key) -> dict[str, Any]:
    """The whole object."""
    return await bench.client.read(kind.RESOURCE.path(*key))


async def turns(
    bench: Bench, kind: Any, key: Key, what: str, holds: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    """The object, once that holds of it."""

    async def there() -> dict[str, Any] | None:
        try:
            found = await look(bench, kind, key)
        except NotFound:
            return None  # between an old one and its successor
        return found if holds(found) else None

    return await bench.eventually(there, f"{kind.RESOURCE.kind} {key} {what}")


async def edit(bench: Bench, key: Key, **changes: Any) -> None:
    await bench.client.merge_patch(Workspace.RESOURCE, key, changes)


def server(workload: dict[str, Any]) -> dict[str, Any]:
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    found: dict[str, Any] = container
    return found


async def test_the_service_follows_the_annotation_both_ways(
    controller: ControllerProcess, bench: Bench
) -> None:
    key = await bench.create("balanced")
    await bench.condition(key, "WorkspaceReady", "True")
    before = await look(bench, Service, key)
    assert before["spec"]["type"] == "ClusterIP"
    assert {(p["port"], p["targetPort"]) for p in before["spec"]["ports"]} == {
        (80, 5000),
        (29500, 29500),
    }
    deployed = await bench.read(Deployment, key)

    await edit(bench, key, metadata={"annotations": {labels.ENABLE_LOAD_BALANCER: "True"}})
    balanced = await turns(
        bench, Service, key, "is balanced", lambda s: s["spec"]["type"] == "LoadBalancer"
    )
    assert [p["port"] for p in balanced["spec"]["ports"]] == [80]
    assert balanced["spec"]["clusterIP"] == before["spec"]["clusterIP"]

    await edit(bench, key, metadata={"annotations": {labels.ENABLE_LOAD_BALANCER: None}})
    plain = await turns(
        bench, Service, key, "is internal", lambda s: s["spec"]["type"] == "ClusterIP"
    )
    assert sorted(p["port"] for p in plain["spec"]["ports"]) == [80, 29500]
    assert not any("nodePort" in port for port in plain["spec"]["ports"])
    assert await bench.read(Deployment, key) == deployed, "no pod was touched for it"


async def test_a_model_spread_over_nodes_comes_changes_and_goes_as_one(
    controller: ControllerProcess, bench: Bench
) -> None:
    key = await bench.create("pair", inference=BIG, resource=PAIR)
    headless = bench.key("pair-headless")
    await bench.condition(key, "WorkspaceReady", "True")
    made = await look(bench, StatefulSet, key)
    assert made["spec"]["replicas"] == 2
    assert made["spec"]["podManagementPolicy"] == "Parallel"
    assert made["spec"]["serviceName"] == "pair-headless"
    assert "--engine=vllm" in server(made)["args"]
    names = (await look(bench, Service, headless))["spec"]
    assert (names["clusterIP"], names["publishNotReadyAddresses"]) == ("None", True)
    clients = (await look(bench, Service, key))["spec"]
    assert clients["selector"]["statefulset.kubernetes.io/pod-name"] == "pair-0"
    assert not clients.get("publishNotReadyAddresses")
    assert not await bench.exists(Deployment, key)

    bench.world.collect = False
    await edit(bench, key, inference={"adapters": [CHATTY]})
    await turns(bench, StatefulSet, key, "is going", lambda s: "deletionTimestamp" in s["metadata"])
    await bench.condition(key, "WorkspaceReady", "False")
    bench.world.collect = True
    anew = await turns(
        bench,
        StatefulSet,
        key,
        "is made anew",
        lambda s: s["metadata"]["uid"] != made["metadata"]["uid"],
    )
    assert "--adapter=chatty=1.0" in server(anew)["args"]
    await bench.condition(key, "WorkspaceReady", "True")

    await bench.delete(key)
    await bench.gone(key)
    for kind, left in ((StatefulSet, key), (Service, key), (Service, headless)):
        assert not await bench.exists(kind, left)


async def test_adapters_and_settings_reach_the_pods_and_an_edit_rolls_them(
    controller: ControllerProcess, bench: Bench
) -> None:
    settings = {"inference_config.yaml": "max_model_len: 4096\n"}
    meta = {"name": "settings", "namespace": bench.namespace}
    inference = SERVE_PHI | {"adapters": [CHATTY, TERSE], "config": "settings"}
    await bench.client.create(ConfigMap.RESOURCE, {"metadata": meta, "data": settings})
    key = await bench.create("adapted", inference=inference)
    await bench.condition(key, "WorkspaceReady", "True")
    made = await look(bench, Deployment, key)
    assert {"--adapter=chatty=1.0", "--adapter=terse=0.5"} <= set(server(made)["args"])
    assert "--config_file=/mnt/config/inference_config.yaml" in server(made)["args"]
    (puller,) = made["spec"]["template"]["spec"]["initContainers"]
    assert puller["name"] == "puller-chatty"

    await edit(bench, key, inference={"adapters": [TERSE]})
    rolled = await turns(
        bench,
        Deployment,
        key,
        "has lost an adapter",
        lambda d: "initContainers" not in d["spec"]["template"]["spec"],
    )
    assert rolled["metadata"]["uid"] == made["metadata"]["uid"]
    assert "--adapter=chatty=1.0" not in server(rolled)["args"]
    await bench.condition(key, "WorkspaceReady", "True")


WRONG: dict[str, dict[str, Any]] = {
    "a-value-that-validation-refuses": {"hostname": "Not_A_Name"},
    "a-field-that-does-not-exist": {"hostnam": "own"},
    "a-value-of-the-wrong-type": {"hostNetwork": "yes"},
    "a-volume-of-no-kind": {"volumes": [{"name": "v", "noSuchVolume": {}}]},
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_a_template_that_only_the_api_server_finds_wrong_costs_no_node(
    controller: ControllerProcess, bench: Bench, wrong: str
) -> None:
    sound = {"containers": [{"name": "own", "image": "example.com/own:1"}]}
    key = await bench.create("wrong", inference={"template": {"spec": sound | WRONG[wrong]}})
    found = await bench.condition(key, "InferenceReady", "False", "TemplateRejected")
    (field,) = WRONG[wrong]
    assert field in found.message
    assert not await bench.exists(Deployment, key)
    assert bench.world.made == []

    await edit(bench, key, inference={"template": {"spec": {field: None}}})
    await bench.condition(key, "WorkspaceReady", "True")


async def test_an_adapters_volume_that_only_the_api_server_finds_wrong_costs_no_node(
    controller: ControllerProcess, bench: Bench
) -> None:
    unknown = {"persistentVolumeClaim": {"claimName": "terse", "noSuchField": "x"}}
    none = {"source": {"name": "terse", "volumeSource": unknown}}
    key = await bench.create("volumeless", inference=SERVE_PHI | {"adapters": [none]})
    found = await bench.condition(key, "InferenceReady", "False", "AdapterUnusable")
    assert "noSuchField" in found.message
    assert bench.world.made == []


async def test_another_version_of_the_controller_restarts_nothing_until_it_is_asked_to(
    controller_process: ControllerProcess, bench: Bench
) -> None:
    controller_process.start(RUNTIME_IMAGE_TAG="0.1.0")
    pair = await bench.create("pair", inference=BIG, resource=PAIR)
    alone = await bench.create("alone")
    for key in (pair, alone):
        await bench.condition(key, "WorkspaceReady", "True")
    kinds = ((StatefulSet, pair), (Deployment, alone), (Service, pair), (Service, alone))
    before = [await look(bench, kind, key) for kind, key in kinds]

    controller_process.start(
        RUNTIME_IMAGE_TAG="0.2.0",
        PRESET_REGISTRY_NAME="elsewhere.example.com/gpu",
        MODEL_HUB_ENDPOINT="http://another.example.com",
        INSECURE_REGISTRIES="registry.local:5000",
    )
    for key in (pair, alone):  # so that a pass is sure to have been made
        await edit(bench, key, metadata={"annotations": {"example.com/touch": "1"}})
    await edit(bench, alone, resource={"count": 2})
    await turns(bench, Deployment, alone, "is scaled", lambda d: d["spec"]["replicas"] == 2)
    await bench.pause(0.5)
    after = [await look(bench, kind, key) for kind, key in kinds]
    for old, new in zip(before, after, strict=True):
        assert new["spec"].get("template") == old["spec"].get("template")
    assert [each["metadata"]["uid"] for each in after] == [e["metadata"]["uid"] for e in before]

    await edit(bench, alone, metadata={"annotations": {labels.UPGRADE_TO_VERSION: "0.2.0"}})
    await turns(
        bench,
        Deployment,
        alone,
        "runs the version asked for",
        lambda d: server(d)["image"] == "elsewhere.example.com/gpu/kaito-base:0.2.0",
    )
    assert server(await look(bench, StatefulSet, pair))["image"].endswith(":0.1.0")


async def test_a_typing_error_in_the_version_takes_nothing_down(
    controller: ControllerProcess, bench: Bench
) -> None:
    key = await bench.create("steady")
    await bench.condition(key, "WorkspaceReady", "True")
    before = await bench.read(Deployment, key)
    await edit(bench, key, metadata={"annotations": {labels.UPGRADE_TO_VERSION: "0.2.0 please"}})
    found = await bench.condition(key, "WorkspaceReady", "False", "workspaceFailed")
    assert "is no image tag" in found.message
    assert await bench.read(Deployment, key) == before


async def test_a_secret_that_is_missing_is_said(
    controller: ControllerProcess, bench: Bench
) -> None:
    key = await bench.create("secretless")
    await bench.condition(key, "WorkspaceReady", "True")
    bench.world.serve = False
    pod = bench.key("secretless-0")
    manifest = {
        "metadata": {
            "name": pod.name,
            "namespace": pod.namespace,
            "labels": {labels.WORKSPACE: key.name},
        },
        "spec": {"nodeName": "n", "containers": [{"name": "a", "image": "example.com/a"}]},
    }
    made = await bench.client.create(Pod.RESOURCE, manifest)
    for number, about in enumerate((made.uid, "another")):
        event = {
            "metadata": {"name": f"mount-{number}", "namespace": pod.namespace},
            "involvedObject": {"kind": "Pod", "namespace": pod.namespace, "uid": about},
            "type": "Warning",
            "reason": "FailedMount",
            "message": f'secret "hub-{number}" not found',
        }
        await bench.client.create(Event.RESOURCE, event)
    waiting = {"waiting": {"reason": "ContainerCreating"}}
    container = {"name": "a", "image": "example.com/a", "imageID": "", "ready": False}
    status = {
        "phase": "Pending",
        "startTime": "2026-01-01T00:00:00Z",
        "containerStatuses": [container | {"restartCount": 0, "state": waiting}],
    }
    await bench.client.merge_patch(Pod.RESOURCE, pod, {"status": status}, subresource="status")
    counts = {"replicas": 1, "readyReplicas": 0, "availableReplicas": 0, "updatedReplicas": 1}
    await bench.client.merge_patch(
        Deployment.RESOURCE, key, {"status": counts}, subresource="status"
    )
    found = await bench.condition(key, "InferenceReady", "False", "VolumeMountError")
    assert 'secret "hub-0" not found' in found.message
