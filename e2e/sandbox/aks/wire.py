"""How pools, VMs and operations look on the wire and to the node that boots.

Invariant: pure; records in, ARM's JSON or a NodeSpec out. Nothing is remembered here.
"""

from datetime import UTC, datetime
from typing import Any

from sandbox.aks.records import Instance, Moment, Operation, Pool
from sandbox.aks.settings import Cluster
from sandbox.aks.skus import find_sku
from sandbox.nodes.driver import NodeSpec

NODE_IMAGE = "AKSUbuntu-2204gen2containerd-202611.10.0"
RESOURCE_TYPE = "Microsoft.ContainerService/managedClusters/agentPools"


def timestamp(moment: Moment) -> str:
    """Returns a moment in RFC 3339."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="microseconds")


def pool_json(cluster: Cluster, pool: Pool) -> dict[str, Any]:
    """Returns the ARM resource."""
    return {
        "id": f"{cluster.id}/agentPools/{pool.name}",
        "name": pool.name,
        "type": RESOURCE_TYPE,
        "properties": {
            **pool.properties,
            "count": pool.count,
            "provisioningState": pool.state,
            "powerState": {"code": "Running"},
            "orchestratorVersion": cluster.kubernetes_version,
            "currentOrchestratorVersion": cluster.kubernetes_version,
            "nodeImageVersion": NODE_IMAGE,
            "eTag": pool.etag,
            **({"status": {"provisioningError": pool.error}} if pool.error else {}),
        },
    }


def operation_json(cluster: Cluster, operation: Operation) -> dict[str, Any]:
    """Returns the body of the operation's status URL."""
    return {
        "id": operation_path(cluster, operation.id, "operations"),
        "name": operation.id,
        "status": operation.status,
        "startTime": timestamp(operation.started),
        **({} if operation.ended is None else {"endTime": timestamp(operation.ended)}),
        **({"error": operation.error} if operation.error else {}),
    }


def operation_path(cluster: Cluster, operation_id: str, kind: str) -> str:
    """Returns the path of an operation's status (`operations`) or result (`operationresults`)."""
    return (
        f"/subscriptions/{cluster.subscription}/providers/Microsoft.ContainerService"
        f"/locations/{cluster.location}/{kind}/{operation_id}"
    )


def cluster_json(cluster: Cluster, state: str, pools: list[Pool]) -> dict[str, Any]:
    """Returns the managed cluster, with the properties that clients of agent pools read."""
    profiles = [{"name": pool.name, **pool_json(cluster, pool)["properties"]} for pool in pools]
    return {
        "id": cluster.id,
        "name": cluster.name,
        "type": "Microsoft.ContainerService/ManagedClusters",
        "location": cluster.location,
        "properties": {
            "provisioningState": state,
            "powerState": {"code": "Running"},
            "kubernetesVersion": cluster.kubernetes_version,
            "currentKubernetesVersion": cluster.kubernetes_version,
            "dnsPrefix": cluster.name,
            "nodeResourceGroup": cluster.node_resource_group,
            "agentPoolProfiles": profiles,
        },
    }


def machine_json(cluster: Cluster, pool: Pool, instance: Instance) -> dict[str, Any]:
    """Returns a VM as the machines API shows it, its Node joined or not."""
    name = instance.node
    return {
        "id": f"{cluster.id}/agentPools/{pool.name}/machines/{name}",
        "name": name,
        "type": f"{RESOURCE_TYPE}/machines",
        "properties": {"resourceId": vm_id(cluster, pool, instance)},
        **({"zones": [instance.zone]} if instance.zone else {}),
    }


def vm_id(cluster: Cluster, pool: Pool, instance: Instance) -> str:
    """Returns the Azure id of a VM."""
    return (
        f"/subscriptions/{cluster.subscription}/resourceGroups/{cluster.node_resource_group}"
        f"/providers/Microsoft.Compute/virtualMachineScaleSets/{pool.scale_set}"
        f"/virtualMachines/{instance.index}"
    )


def node_spec(cluster: Cluster, pool: Pool, instance: Instance) -> NodeSpec:
    """Returns what AKS tells a VM that is about to boot."""
    sku = find_sku(pool.vm_size)
    return NodeSpec(
        name=instance.node,
        pool=pool.name,
        provider_id=f"azure://{vm_id(cluster, pool, instance)}",
        vm_size=pool.vm_size,
        gpus=0 if sku is None else sku.nvidia_gpus,
        labels=_node_labels(cluster, pool, instance),
        taints=tuple(pool.properties.get("nodeTaints") or ()),
        zone=_zone(cluster, instance),
        instance=instance.index,
        region=cluster.location,
        spot=pool.spot,
    )


def _zone(cluster: Cluster, instance: Instance) -> str | None:
    return f"{cluster.location}-{instance.zone}" if instance.zone else None


def _node_labels(cluster: Cluster, pool: Pool, instance: Instance) -> dict[str, str]:
    sku = find_sku(pool.vm_size)
    nvidia = sku is not None and sku.nvidia_gpus > 0
    return {
        **(pool.properties.get("nodeLabels") or {}),
        "agentpool": pool.name,
        "kubernetes.azure.com/agentpool": pool.name,
        "kubernetes.azure.com/cluster": cluster.node_resource_group,
        "kubernetes.azure.com/mode": str(pool.properties["mode"]).lower(),
        "kubernetes.azure.com/role": "agent",
        "kubernetes.azure.com/node-image-version": NODE_IMAGE,
        "kubernetes.azure.com/os-sku": str(pool.properties["osSKU"]),
        "node.kubernetes.io/instance-type": pool.vm_size,
        "topology.kubernetes.io/region": cluster.location,
        # A VM outside the zones carries its fault domain here.
        "topology.kubernetes.io/zone": _zone(cluster, instance) or "0",
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/os": str(pool.properties["osType"]).lower(),
        "kubernetes.io/hostname": instance.node,
        **(
            {"kubernetes.azure.com/accelerator": "nvidia", "accelerator": "nvidia"}
            if nvidia
            else {}
        ),
        **({"kubernetes.azure.com/scalesetpriority": "spot"} if pool.spot else {}),
    }
