"""Views of Kubernetes' own kinds: only the fields that the controllers read.

Invariant: what is not read is not kept, so that a cache of thousands of pods stays small. These
types are never written back; writes are manifests or patches.
"""

from datetime import datetime
from typing import Annotated, ClassVar

from pydantic import Field

from controlkit.kube.objects import ApiModel, KubeObject, ObjectMeta, Resource
from gpuapis.machine import Quantities, Taint


class NodeSpec(ApiModel):
    """What a Node was told to be."""

    provider_id: Annotated[str, Field(alias="providerID")] = ""
    taints: tuple[Taint, ...] = ()
    unschedulable: bool = False


class StatusCondition(ApiModel):
    """A condition of a built-in kind."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: datetime | None = None


class NodeStatus(ApiModel):
    """What a Node reports."""

    capacity: Quantities = {}
    allocatable: Quantities = {}
    conditions: tuple[StatusCondition, ...] = ()


class Node(KubeObject):
    """A machine of the cluster."""

    RESOURCE: ClassVar[Resource] = Resource(
        group="", version="v1", plural="nodes", kind="Node", namespaced=False
    )

    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()

    @property
    def ready(self) -> bool:
        """Whether the kubelet reports the node Ready."""
        return any(c.type == "Ready" and c.status == "True" for c in self.status.conditions)

    def allocatable(self, resource: str) -> int:
        """How many whole units of `resource` pods may use; 0 when it is not advertised.

        For countable resources such as `nvidia.com/gpu`, whose quantities carry no suffix.
        """
        quantity = str(self.status.allocatable.get(resource, "0"))
        return int(quantity) if quantity.isdigit() else 0


class ContainerState(ApiModel):
    """Why a container waits, or how it ended."""

    reason: str = ""
    message: str = ""
    exit_code: int = 0
    started_at: datetime | None = None
    finished_at: datetime | None = None


class ContainerStates(ApiModel):
    """Exactly one of these is set."""

    waiting: ContainerState | None = None
    running: ContainerState | None = None
    terminated: ContainerState | None = None


class ContainerStatus(ApiModel):
    """How one container of a pod is."""

    name: str
    ready: bool = False
    started: bool | None = None
    restart_count: int = 0
    state: ContainerStates = ContainerStates()
    last_state: ContainerStates = ContainerStates()


class PodSpec(ApiModel):
    """Where a Pod runs."""

    node_name: str = ""
    priority_class_name: str = ""
    termination_grace_period_seconds: int | None = None
    tolerations: tuple["Toleration", ...] = ()


class Toleration(ApiModel):
    """A taint that a pod does not mind."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""


class PodStatus(ApiModel):
    """How a Pod is."""

    phase: str = ""
    reason: str = ""
    message: str = ""
    pod_ip: Annotated[str | None, Field(alias="podIP")] = None
    start_time: datetime | None = None
    conditions: tuple[StatusCondition, ...] = ()
    init_container_statuses: tuple[ContainerStatus, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()


class Pod(KubeObject):
    """A running model, or one that is about to run."""

    RESOURCE: ClassVar[Resource] = Resource(
        group="", version="v1", plural="pods", kind="Pod", namespaced=True
    )

    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def ready(self) -> bool:
        """Whether the pod's readiness probe answers."""
        return any(c.type == "Ready" and c.status == "True" for c in self.status.conditions)


class Ingress(ApiModel):
    """One way in from outside the cluster: an IP address or a host name."""

    ip: str = ""
    hostname: str = ""


class LoadBalancer(ApiModel):
    """The ways in that the cloud has made."""

    ingress: tuple[Ingress, ...] = ()


class ServiceStatus(ApiModel):
    """How a Service can be reached."""

    load_balancer: LoadBalancer = LoadBalancer()


class Service(KubeObject):
    """The address of a served model; its spec is ours, so it is not read."""

    RESOURCE: ClassVar[Resource] = Resource(
        group="", version="v1", plural="services", kind="Service", namespaced=True
    )

    status: ServiceStatus = ServiceStatus()


class Replicas(ApiModel):
    """How many pods a workload is to have."""

    replicas: int = 1


class WorkloadStatus(ApiModel):
    """How many pods a workload has."""

    observed_generation: int = 0
    replicas: int = 0
    ready_replicas: int = 0
    updated_replicas: int = 0
    conditions: tuple[StatusCondition, ...] = ()


class Deployment(KubeObject):
    """A model served by pods that are alike."""

    RESOURCE: ClassVar[Resource] = Resource(
        group="apps", version="v1", plural="deployments", kind="Deployment", namespaced=True
    )

    spec: Replicas = Replicas()
    status: WorkloadStatus = WorkloadStatus()


class StatefulSet(KubeObject):
    """A model served by pods that know their number."""

    RESOURCE: ClassVar[Resource] = Resource(
        group="apps", version="v1", plural="statefulsets", kind="StatefulSet", namespaced=True
    )

    spec: Replicas = Replicas()
    status: WorkloadStatus = WorkloadStatus()


class JobStatus(ApiModel):
    """How far a Job is."""

    failed: int = 0
    """Pods that have failed so far."""
    conditions: tuple[StatusCondition, ...] = ()
    completion_time: datetime | None = None


class Job(KubeObject):
    """Pods that run to an end; its spec is ours, so only metadata and status are read."""

    RESOURCE: ClassVar[Resource] = Resource(
        group="batch", version="v1", plural="jobs", kind="Job", namespaced=True
    )

    status: JobStatus = JobStatus()


class ConfigMap(KubeObject):
    """A user's or a chart's settings, by file name."""

    RESOURCE: ClassVar[Resource] = Resource(
        group="", version="v1", plural="configmaps", kind="ConfigMap", namespaced=True
    )

    data: dict[str, str] = {}


class Event(KubeObject):
    """Something that a component tells about an object."""

    RESOURCE: ClassVar[Resource] = Resource(
        group="", version="v1", plural="events", kind="Event", namespaced=True
    )

    type: str = ""
    reason: str = ""
    message: str = ""


class Secret(KubeObject):
    """A Secret, of which only the metadata is read here."""

    RESOURCE: ClassVar[Resource] = Resource(
        group="", version="v1", plural="secrets", kind="Secret", namespaced=True
    )


class VolumeAttachment(KubeObject):
    """A volume that is attached to a node."""

    RESOURCE: ClassVar[Resource] = Resource(
        group="storage.k8s.io",
        version="v1",
        plural="volumeattachments",
        kind="VolumeAttachment",
        namespaced=False,
    )


__all__ = [
    "ConfigMap",
    "ContainerState",
    "ContainerStates",
    "ContainerStatus",
    "Deployment",
    "Event",
    "Job",
    "JobStatus",
    "Node",
    "NodeSpec",
    "NodeStatus",
    "ObjectMeta",
    "Pod",
    "PodSpec",
    "PodStatus",
    "Replicas",
    "Secret",
    "Service",
    "StatefulSet",
    "StatusCondition",
    "Toleration",
    "VolumeAttachment",
    "WorkloadStatus",
]
