"""The body of a PUT as it is serialised, and what is made of what Azure tells."""

import json

from azure.mgmt.containerservice._utils.model_base import SdkJSONEncoder
from azure.mgmt.containerservice.models import AgentPool

from gpu_provisioner.azure.body import pool_body, read_pool
from gpu_provisioner.azure.pools import PoolSpec, Shape


def serialised(spec: PoolSpec) -> dict[str, object]:
    body = json.loads(json.dumps(pool_body(spec), cls=SdkJSONEncoder, exclude_readonly=True))
    assert set(body) == {"properties"}
    properties: dict[str, object] = body["properties"]
    return properties


def test_50_the_body_holds_what_we_decide_on_and_nothing_else() -> None:
    shape = Shape("Standard_NC6", labels={"a": "b"}, taints=("k:NoSchedule",))
    spec = PoolSpec("ws1", shape, tags={"t": "u"})
    assert serialised(spec) == {
        "count": 1,
        "vmSize": "Standard_NC6",
        "osType": "Linux",
        "osSKU": "Ubuntu",
        "type": "VirtualMachineScaleSets",
        "mode": "User",
        "nodeLabels": {"a": "b"},
        "nodeTaints": ["k:NoSchedule"],
        "tags": {"t": "u"},
    }


def test_what_is_asked_for_on_top_is_added() -> None:
    shape = Shape(
        "Standard_NC6",
        os_sku="AzureLinux",
        os_disk_gib=200,
        zones=("1", "2"),
        spot=True,
        subnet="/n",
        pod_subnet="/p",
    )
    body = serialised(PoolSpec("ws1", shape, count=4))
    assert (body["count"], body["osSKU"], body["osDiskSizeGB"]) == (4, "AzureLinux", 200)
    assert body["availabilityZones"] == ["1", "2"]
    assert body["scaleSetPriority"] == "Spot"
    assert (body["scaleSetEvictionPolicy"], body["spotMaxPrice"]) == ("Delete", -1.0)
    assert (body["vnetSubnetID"], body["podSubnetID"]) == ("/n", "/p")


def test_a_pool_is_read_with_its_error() -> None:
    told = {
        "name": "ws1",
        "properties": {
            "provisioningState": "Failed",
            "eTag": "e",
            "mode": "System",
            "count": 2,
            "vmSize": "Standard_NC6",
            "nodeImageVersion": "image",
            "nodeLabels": {"a": "b"},
            "tags": {"t": "u"},
            "powerState": {"code": "Stopped"},
            "vnetSubnetID": "/n",
            "podSubnetID": "/p",
            "status": {"provisioningError": {"code": "QuotaExceeded", "message": "m"}},
        },
    }
    pool = read_pool(AgentPool(told))
    assert (pool.state, pool.phase, pool.etag, pool.system) == ("Failed", "Failed", "e", True)
    assert (pool.count, pool.vm_size, pool.image, pool.running) == (
        2,
        "Standard_NC6",
        "image",
        False,
    )
    assert (pool.subnet, pool.pod_subnet, pool.labels, pool.tags) == (
        "/n",
        "/p",
        {"a": "b"},
        {"t": "u"},
    )
    assert json.loads(pool.error)["code"] == "QuotaExceeded"


def test_what_azure_leaves_out_or_invents_does_no_harm() -> None:
    bare = read_pool(AgentPool({"name": "ws1"}))
    assert (bare.state, bare.phase, bare.running, bare.error) == ("InProgress", "", True, "")
    later = read_pool(
        AgentPool({"name": "ws1", "properties": {"provisioningState": "Hibernating"}})
    )
    assert later.state == "InProgress"
    assert not later.upgrading
    surge = read_pool(
        AgentPool({"name": "w", "properties": {"provisioningState": "UpgradingNodeImageVersion"}})
    )
    assert surge.upgrading
