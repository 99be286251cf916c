"""Karpenter's Machine (`karpenter.sh/v1alpha5`): one request for one node.

Invariant: the schema is the one Karpenter v0.29 publishes, field for field, so that any provisioner
of that generation can serve the objects and any tool that reads them keeps working.
"""

from datetime import datetime
from typing import Annotated, ClassVar

from pydantic import Field

from controlkit.crdgen import int_or_string
from controlkit.kube.objects import ApiModel, KubeObject, Resource

GROUP = "karpenter.sh"

QUANTITY_PATTERN = (
    r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))"
    r"(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$"
)
Quantity = Annotated[str | int, int_or_string(QUANTITY_PATTERN)]
Quantities = Annotated[dict[str, Quantity], Field(max_length=64)]


class Requirement(ApiModel):
    """A condition on the labels of the node to be made."""

    key: str
    """The label's key."""
    operator: str
    """`In`, `NotIn`, `Exists`, `DoesNotExist`, `Gt` or `Lt`."""
    values: tuple[str, ...] = ()
    """The values that the operator compares with."""


class Taint(ApiModel):
    """A mark on a node that keeps away pods which do not tolerate it."""

    key: str
    """The taint's key."""
    value: str = ""
    """The taint's value."""
    effect: str
    """`NoSchedule`, `PreferNoSchedule` or `NoExecute`."""
    time_added: datetime | None = None
    """When a `NoExecute` taint was added."""


class ResourceRequirements(ApiModel):
    """What the node must offer."""

    requests: Quantities = {}
    """The least amount of each resource."""


class MachineTemplateRef(ApiModel):
    """The provider's template, for provisioners that use one."""

    name: str
    """The template's name."""
    kind: str | None = None
    """The template's kind."""
    api_version: str | None = None
    """The template's API version."""


class KubeletConfiguration(ApiModel):
    """Kubelet settings, for provisioners that honour them."""

    cluster_dns: Annotated[tuple[str, ...], Field(alias="clusterDNS")] = ()
    container_runtime: str | None = None
    cpu_cfs_quota: Annotated[bool | None, Field(alias="cpuCFSQuota")] = None
    eviction_hard: dict[str, str] = {}
    eviction_soft: dict[str, str] = {}
    eviction_soft_grace_period: dict[str, str] = {}
    eviction_max_pod_grace_period: int | None = None
    image_gc_high_threshold_percent: Annotated[
        Annotated[int, Field(ge=0, le=100)] | None, Field(alias="imageGCHighThresholdPercent")
    ] = None
    image_gc_low_threshold_percent: Annotated[
        Annotated[int, Field(ge=0, le=100)] | None, Field(alias="imageGCLowThresholdPercent")
    ] = None
    kube_reserved: Quantities = {}
    system_reserved: Quantities = {}
    max_pods: Annotated[int, Field(ge=0)] | None = None
    pods_per_core: Annotated[int, Field(ge=0)] | None = None


class MachineSpec(ApiModel):
    """The node that is wanted."""

    requirements: tuple[Requirement, ...] = ()
    """Conditions on the node's labels; exactly one names the instance type."""
    resources: ResourceRequirements = ResourceRequirements()
    """What the node must offer."""
    taints: tuple[Taint, ...] = ()
    """Taints that the node carries from its first moment."""
    startup_taints: tuple[Taint, ...] = ()
    """Taints that a daemon on the node removes when the node is prepared."""
    machine_template_ref: MachineTemplateRef | None = None
    """The provider's template."""
    kubelet: KubeletConfiguration | None = None
    """Kubelet settings."""


class MachineCondition(ApiModel):
    """One condition, in the older style: no generation, and a severity."""

    type: str
    status: str
    reason: str | None = None
    message: str | None = None
    severity: str | None = None
    last_transition_time: str | None = None


class MachineStatus(ApiModel):
    """What became of the request; the provisioner is its only writer."""

    node_name: str | None = None
    """The node's name."""
    provider_id: Annotated[str | None, Field(alias="providerID")] = None
    """The cloud's name for the node's VM."""
    capacity: Quantities = {}
    """All that the node has."""
    allocatable: Quantities = {}
    """What pods may use of it."""
    conditions: tuple[MachineCondition, ...] = ()
    """`MachineLaunched`, `MachineRegistered`, `MachineInitialized`, and `Ready` for the whole."""


class Machine(KubeObject):
    """One request for one node, and what became of it."""

    RESOURCE: ClassVar[Resource] = Resource(
        group=GROUP, version="v1alpha5", plural="machines", kind="Machine", namespaced=False
    )

    spec: MachineSpec = MachineSpec()
    """The node that is wanted."""
    status: MachineStatus = MachineStatus()
    """What became of the request."""
