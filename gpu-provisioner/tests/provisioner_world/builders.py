"""Claims, pools and nodes as tests want them: one line each, everything usual by default.

Invariant: what a builder makes by default is a healthy claim's world: held, asked for, made, joined,
ready, with its GPU.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from gpu_provisioner.azure.pools import Pool, PoolState
from gpu_provisioner.binding import CLAIM_TAG, CREATED_TAG, KIND_TAG, POOL_TAG, SHAPE_TAG, UID_TAG
from gpu_provisioner.claims.claim import Claim, Condition, Requirement, Status, Taint
from gpuapis.core import Node, Pod
from gpuapis.labels import (
    AGENT_POOL,
    DISRUPTED_TAINT,
    GPU_RESOURCE,
    INITIALIZED,
    INSTANCE_TYPE,
    NODEPOOL,
    PROVISION_STARTED,
    REGISTERED,
    TERMINATION_FINALIZER,
    WORKSPACE,
)

NOW: Final = datetime(2030, 1, 1, 12, 0, 0, tzinfo=UTC)
NAME: Final = "ws0123456789"[:11]
SIZE: Final = "Standard_NC24ads_A100_v4"
GPU_TAINT: Final = Taint("sku", "gpu", "NoSchedule")


def condition(
    aspect: str, status: Status = "True", reason: str = "", message: str = ""
) -> Condition:
    """A condition as it stands."""
    return Condition(aspect, status, reason, message, NOW - timedelta(minutes=5))


def claim(
    *true: str,
    started: float | None = 60.0,
    told: tuple[Condition, ...] = (),
    annotations: Mapping[str, str] | None = None,
    **changes: Any,
) -> Claim:
    """A claim.

    Args:
        true: conditions that hold.
        started: seconds ago that its pool was asked for; None for never.
        told: further conditions.
        annotations: besides that of the start.
        changes: other attributes.
    """
    notes = dict(annotations or {})
    if started is not None:
        notes[PROVISION_STARTED] = (NOW - timedelta(seconds=started)).isoformat()
    conditions = [*(condition(aspect) for aspect in true), *told]
    values: dict[str, Any] = {
        "kind": "Machine",
        "name": NAME,
        "uid": "uid-1",
        "version": "100",
        "created": NOW - timedelta(minutes=2),
        "finalizers": (TERMINATION_FINALIZER,),
        "labels": {WORKSPACE: "phi-3", NODEPOOL: "kaito"},
        "annotations": notes,
        "requirements": (Requirement(INSTANCE_TYPE, "In", (SIZE,)),),
        "requests": {"storage": "120Gi", GPU_RESOURCE: "1"},
        "taints": (GPU_TAINT,),
        "conditions": {each.aspect: each for each in conditions},
    }
    if "Launched" in true:
        values |= {"node_name": "node-1", "provider_id": "azure:///vm/0"}
    return Claim(**values | changes)


def pool(
    state: PoolState = "Succeeded", *, uid: str = "uid-1", shared: bool = False, **changes: Any
) -> Pool:
    """The pool of the claim, its own or one that is open to its shape."""
    made = {CREATED_TAG: (NOW - timedelta(minutes=1)).isoformat(), KIND_TAG: "Machine"}
    own = {CLAIM_TAG: NAME, UID_TAG: uid}
    name = changes.get("name", NAME)
    values: dict[str, Any] = {
        "name": NAME,
        "phase": {"InProgress": "Creating"}.get(state, state),
        "etag": "e1",
        "vm_size": SIZE,
        "image": "AKSUbuntu-2204",
        "labels": {WORKSPACE: "phi-3", NODEPOOL: "kaito"},
        "tags": made | ({POOL_TAG: name, SHAPE_TAG: "shape"} if shared else own),
    }
    return Pool(state=state, **values | changes)


def node(
    name: str = "node-1",
    *,
    ready: bool = True,
    gpu: int = 1,
    registered: bool = True,
    initialized: bool = True,
    taints: tuple[Taint, ...] = (GPU_TAINT,),
    cordoned: bool = False,
    deleting: float | None = None,
    provider_id: str = "azure:///vm/0",
    labels: Mapping[str, str] | None = None,
    owner: str = "uid-1",
) -> Node:
    """The node of the claim.

    Args:
        name: its name.
        ready: whether its kubelet says so.
        gpu: how many it offers.
        registered: whether it has taken over what the claim asks for.
        initialized: whether it is marked so.
        taints: besides that of a cordon.
        cordoned: whether nothing new is placed on it.
        deleting: seconds ago that its deletion was asked for; None for never.
        provider_id: of its VM; "" while nobody knows it.
        labels: besides the usual ones.
        owner: uid of the claim that it is registered for.
    """
    marks = {AGENT_POOL: NAME, **(labels or {})}
    marks |= {REGISTERED: "true"} if registered else {}
    marks |= {INITIALIZED: "true"} if registered and initialized else {}
    metadata: dict[str, Any] = {
        "name": name,
        "uid": f"{name}-uid",
        "resourceVersion": "7",
        "labels": marks,
        "finalizers": [TERMINATION_FINALIZER] if registered else [],
    }
    if registered:
        metadata["ownerReferences"] = [
            {"apiVersion": "karpenter.sh/v1alpha5", "kind": "Machine", "name": NAME, "uid": owner}
        ]
    if deleting is not None:
        metadata["deletionTimestamp"] = (NOW - timedelta(seconds=deleting)).isoformat()
    all_taints = [*taints, *([Taint(DISRUPTED_TAINT, "", "NoSchedule")] if cordoned else [])]
    return Node.model_validate(
        {
            "metadata": metadata,
            "spec": {
                "providerID": provider_id,
                "taints": [
                    {"key": each.key, "value": each.value, "effect": each.effect}
                    for each in all_taints
                ],
            },
            "status": {
                "capacity": {GPU_RESOURCE: str(gpu)},
                "allocatable": {GPU_RESOURCE: str(gpu)},
                "conditions": [
                    {
                        "type": "Ready",
                        "status": "True" if ready else "False",
                        "message": "" if ready else "the kubelet is gone",
                    }
                ],
            },
        }
    )


def pod(name: str = "model-0", **changes: Any) -> Pod:
    """A pod on the node.

    Args:
        name: its name.
        changes: `deleting` (seconds until its grace period ends), `daemon`, `critical`, `phase`,
            `tolerations`, `annotations`.
    """
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": "models",
        "uid": f"{name}-uid",
        "annotations": changes.get("annotations", {}),
    }
    if "deleting" in changes:
        metadata["deletionTimestamp"] = (NOW + timedelta(seconds=changes["deleting"])).isoformat()
    if changes.get("daemon"):
        metadata["ownerReferences"] = [
            {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "uid": "d"}
        ]
    return Pod.model_validate(
        {
            "metadata": metadata,
            "spec": {
                "nodeName": "node-1",
                "priorityClassName": "system-node-critical" if changes.get("critical") else "",
                "tolerations": changes.get("tolerations", []),
            },
            "status": {"phase": changes.get("phase", "Running")},
        }
    )
