"""What the process driver reads of a Pod: enough to run our own containers, and to refuse others.

Invariant: these are views; the driver writes nothing of a pod but its status and one annotation.
"""

from typing import Annotated, Any, ClassVar

from pydantic import Field

from controlkit.kube.objects import ApiModel, KubeObject, ObjectMeta, Resource


class HttpGet(ApiModel):
    """A request that a probe makes."""

    path: str = "/"
    port: int | str
    scheme: str = "HTTP"


class TcpSocket(ApiModel):
    """A port that a probe connects to."""

    port: int | str


class Probe(ApiModel):
    """How to find out whether a container works."""

    http_get: HttpGet | None = None
    tcp_socket: TcpSocket | None = None
    exec: dict[str, Any] | None = None
    grpc: dict[str, Any] | None = None
    initial_delay_seconds: int = 0
    period_seconds: int = 10
    timeout_seconds: int = 1
    success_threshold: int = 1
    failure_threshold: int = 3


class FieldRef(ApiModel):
    """A field of the pod."""

    field_path: str


class SecretKeyRef(ApiModel):
    """A key of a Secret in the pod's namespace."""

    name: str
    key: str
    optional: bool = False


class ValueFrom(ApiModel):
    """Where the value of a variable comes from."""

    field_ref: FieldRef | None = None
    secret_key_ref: SecretKeyRef | None = None


class EnvVar(ApiModel):
    """A variable of a container's environment."""

    name: str
    value: str = ""
    value_from: ValueFrom | None = None


class VolumeMount(ApiModel):
    """A volume in a container."""

    name: str
    mount_path: str
    sub_path: str = ""


class ContainerPort(ApiModel):
    """A port with a name that probes may use."""

    name: str = ""
    container_port: int


class Sleep(ApiModel):
    """A pause before a container is asked to end."""

    seconds: int


class Handler(ApiModel):
    """What to do before a container is asked to end."""

    sleep: Sleep | None = None


class Lifecycle(ApiModel):
    """What to do around a container's life."""

    pre_stop: Handler | None = None


class Container(ApiModel):
    """A program of a pod."""

    name: str
    image: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: tuple[EnvVar, ...] = ()
    env_from: tuple[dict[str, Any], ...] = ()
    ports: tuple[ContainerPort, ...] = ()
    volume_mounts: tuple[VolumeMount, ...] = ()
    startup_probe: Probe | None = None
    liveness_probe: Probe | None = None
    readiness_probe: Probe | None = None
    lifecycle: Lifecycle = Lifecycle()
    termination_message_policy: str = "File"


class Volume(ApiModel):
    """A folder of a pod."""

    name: str
    empty_dir: dict[str, Any] | None = None


class PodSpec(ApiModel):
    """What runs, and where."""

    node_name: str = ""
    restart_policy: str = "Always"
    termination_grace_period_seconds: int = 30
    host_network: bool = False
    init_containers: tuple[Container, ...] = ()
    containers: tuple[Container, ...] = ()
    volumes: tuple[Volume, ...] = ()


class ContainerStatus(ApiModel):
    """How often a container was started before."""

    name: str
    restart_count: int = 0


class PodStatus(ApiModel):
    """What an earlier run of the driver reported."""

    phase: str = ""
    container_statuses: tuple[ContainerStatus, ...] = ()


class PodMeta(ObjectMeta):
    """A pod's metadata."""

    deletion_grace_period_seconds: int | None = None


class Pod(KubeObject):
    """A pod that is bound to a node of this driver, or to any other."""

    RESOURCE: ClassVar[Resource] = Resource(
        group="", version="v1", plural="pods", kind="Pod", namespaced=True
    )

    metadata: Annotated[PodMeta, Field(default_factory=PodMeta)]
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def ended(self) -> bool:
        """Whether nothing of it is to run any more."""
        return self.status.phase in ("Succeeded", "Failed")

    @property
    def grace_seconds(self) -> int:
        """How long its containers get to end."""
        asked = self.metadata.deletion_grace_period_seconds
        return self.spec.termination_grace_period_seconds if asked is None else asked
