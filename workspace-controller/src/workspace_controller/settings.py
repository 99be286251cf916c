"""The controller's settings: from flags, then from the environment, then defaults.

Invariant: this is the only reader of the environment and of the command line; a bad value stops
the process at start, and all bad values are told at once, each with what is allowed.
"""

import argparse
import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
)

from workspace_controller.manifests.claims import NodeClass
from workspace_controller.workspaces.facts import ClaimApi, Deadlines

VERSION: Final = "0.1.0"
NAMESPACE_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
LEASE: Final = "workspace-controller"
GATES: Final[Mapping[str, ClaimApi]] = {
    "Karpenter": "nodeclaim",
    "disableNodeAutoProvisioning": "byo",
}
NODE_CLASSES: Final = {
    "azure": NodeClass("kaito.sh", "KaitoNodeClass", "default"),
    "aws": NodeClass("karpenter.k8s.aws", "EC2NodeClass", "default"),
    "arc": NodeClass("kaito.sh", "KaitoNodeClass", "default"),
}
"""The NodeClass that a cloud's NodeClaims refer to where nothing is said."""
GROUPS: Final = {
    "KaitoNodeClass": "kaito.sh",
    "AKSNodeClass": "karpenter.azure.com",
    "EC2NodeClass": "karpenter.k8s.aws",
}
"""The API groups of the kinds of NodeClass that we know; others need theirs named."""
_SPAN: Final = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


def _gates(text: str) -> dict[str, bool]:
    """`Name=true,Other=false` as a mapping."""
    gates = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = part.partition("=")
        if name not in GATES or value.lower() not in ("true", "false"):
            raise ValueError(
                f"{part!r} is not a gate; write NAME=true or NAME=false, with NAME one of "
                f"{', '.join(GATES)}"
            )
        gates[name] = value.lower() == "true"
    return gates


def _address(text: str) -> str:
    """`:8080` or `127.0.0.1:8080`."""
    _, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{text!r} is not an address; write HOST:PORT or :PORT")
    return text


def _registry(text: str) -> str:
    if "://" in text or text.endswith("/") or not text:
        raise ValueError(
            f"{text!r} is not a registry path; write it as in an image name, without https:// and "
            "without a slash at the end, such as registry.example.com/models"
        )
    return text


def _class_kind(kind: str, info: ValidationInfo) -> str:
    """A kind whose API group is known, or named beside it."""
    if kind and kind not in GROUPS and not info.data.get("node_class_group"):
        raise ValueError(
            f"the API group of {kind!r} is not known; set NODE_CLASS_GROUP too, or name one of "
            f"{', '.join(GROUPS)}"
        )
    return kind


def _span(text: Any) -> Any:
    """`90s`, `20m` or `1h30m` as a timedelta."""
    if not isinstance(text, str):
        return text
    parts = _SPAN.fullmatch(text)
    hours, minutes, seconds = (int(part or 0) for part in parts.groups()) if parts else (0, 0, 0)
    span = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    if not span:
        raise ValueError(f"{text!r} is not a span of time; write it as 90s, 20m or 1h30m")
    return span


def _hub(text: str) -> str:
    if text and not text.startswith(("http://", "https://")):
        raise ValueError(f"{text!r} is not a hub address; it begins with http:// or https://")
    return text.rstrip("/")


def _hosts(text: str) -> tuple[str, ...]:
    """`registry:5000,other.example.com` as a tuple."""
    hosts = tuple(filter(None, (part.strip() for part in text.split(","))))
    for host in hosts:
        if "/" in host:
            raise ValueError(
                f"{host!r} is not a registry host; write HOST or HOST:PORT, without http:// and "
                "without a path, such as registry.example.com:5000"
            )
    return hosts


def _webhook_url(text: str) -> str:
    if text and (not text.startswith("https://") or not urlsplit(text).hostname):
        raise ValueError(f"{text!r} is not a webhook URL; it begins with https:// and a host")
    return text


@dataclass(frozen=True)
class Name:
    """How a setting is spelled outside."""

    flag: str
    env: str


Address = Annotated[str, AfterValidator(_address)]
Span = Annotated[timedelta, BeforeValidator(_span)]


class Settings(BaseModel):
    """All settings, checked. Each field's description is its help text."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    preset_registry: Annotated[
        str, AfterValidator(_registry), Name("--preset-registry", "PRESET_REGISTRY_NAME")
    ]
    """Registry path that holds the model runtime's image kaito-base. Required."""
    namespace: Annotated[
        str,
        Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"),
        Name("--namespace", "SYSTEM_NAMESPACE"),
    ]
    """Namespace of the controller: its Lease and its webhook Secret. Default: the pod's."""
    runtime_image_tag: Annotated[
        str, Field(min_length=1), Name("--runtime-image-tag", "RUNTIME_IMAGE_TAG")
    ] = VERSION
    """Tag of the model runtime's image."""
    hub: Annotated[str, AfterValidator(_hub), Name("--model-hub", "MODEL_HUB_ENDPOINT")] = ""
    """Address of the model hub that pods download from; empty for the runtime's default."""
    insecure_registries: Annotated[
        tuple[str, ...],
        BeforeValidator(_hosts),
        Name("--insecure-registries", "INSECURE_REGISTRIES"),
    ] = ()
    """HOST:PORT,... of registries that pods may pull adapters from over plain HTTP."""
    claim_api: Annotated[
        Literal["auto", "machine", "nodeclaim", "byo"], Name("--claim-api", "CLAIM_API")
    ] = "auto"
    """How nodes come: auto (what the cluster serves, Machine first), machine, nodeclaim, or byo
    (you bring them)."""
    cloud: Annotated[Literal["azure", "aws", "arc"], Name("--cloud-provider", "CLOUD_PROVIDER")] = (
        "azure"
    )
    """Whose machine sizes are meant."""
    node_class_group: Annotated[str, Name("--node-class-group", "NODE_CLASS_GROUP")] = ""
    """API group of the NodeClass that NodeClaims refer to; empty for the cloud's own."""
    node_class_kind: Annotated[
        str, AfterValidator(_class_kind), Name("--node-class-kind", "NODE_CLASS_KIND")
    ] = ""
    """Kind of that NodeClass, such as KaitoNodeClass, AKSNodeClass or EC2NodeClass, whose groups are
    known; empty for the cloud's own."""
    node_class_name: Annotated[str, Name("--node-class-name", "NODE_CLASS_NAME")] = ""
    """Name of that NodeClass; empty for the cloud's own."""
    private_data_urls: Annotated[
        bool, Name("--allow-private-data-urls", "ALLOW_PRIVATE_DATA_URLS")
    ] = False
    """Let tuning.input.urls name private addresses."""
    feature_gates: Annotated[
        dict[str, bool], BeforeValidator(_gates), Name("--feature-gates", "FEATURE_GATES")
    ] = {}
    """NAME=true,...; Karpenter asks for NodeClaims, disableNodeAutoProvisioning for byo."""
    webhook: Annotated[bool, Name("--webhook", "WEBHOOK_ENABLED")] = True
    """Serve the admission webhook."""
    webhook_service: Annotated[str, Name("--webhook-service", "WEBHOOK_SERVICE")] = "workspace"
    """Name of the Service by which the API server reaches the webhook."""
    webhook_port: Annotated[int, Field(ge=1, le=65535), Name("--webhook-port", "WEBHOOK_PORT")] = (
        9443
    )
    """Port of the webhook."""
    webhook_url: Annotated[
        str, AfterValidator(_webhook_url), Name("--webhook-url", "WEBHOOK_URL")
    ] = ""
    """URL by which the API server reaches the webhook when it runs outside the cluster."""
    webhook_secret: Annotated[str, Name("--webhook-secret", "WEBHOOK_SECRET")] = (
        "workspace-webhook-cert"  # noqa: S105  (the name of a Secret, not a secret)
    )
    """Secret that keeps the webhook's certificate."""
    webhook_configuration: Annotated[
        str, Name("--webhook-configuration", "WEBHOOK_CONFIGURATION")
    ] = "validation.workspace.kaito.sh"
    """ValidatingWebhookConfiguration that must trust that certificate."""
    metrics_address: Annotated[Address, Name("--metrics-bind-address", "METRICS_BIND_ADDRESS")] = (
        ":8080"
    )
    """Where metrics are served."""
    health_address: Annotated[
        Address, Name("--health-probe-bind-address", "HEALTH_PROBE_BIND_ADDRESS")
    ] = ":8081"
    """Where /healthz and /readyz are served."""
    leader_elect: Annotated[bool, Name("--leader-elect", "LEADER_ELECT")] = True
    """Let one replica of several do the work."""
    workers: Annotated[int, Field(ge=1, le=256), Name("--workers", "WORKERS")] = 10
    """Workspaces looked at at the same time."""
    release_node: Annotated[bool, Name("--tuning-release-node", "TUNING_RELEASE_NODE")] = True
    """Give up the GPU node of a fine-tuning run when it has ended, well or not. The annotation
    kaito.sh/keep-node of a Workspace goes first."""
    tuning_deadline: Annotated[
        int, Field(ge=0, le=10**9), Name("--tuning-deadline-seconds", "TUNING_DEADLINE_SECONDS")
    ] = 0
    """Seconds after which a fine-tuning run is ended, counted from its Job's start; 0: never."""
    kube_client_qps: Annotated[
        float, Field(ge=0, le=10_000), Name("--kube-client-qps", "KUBE_CLIENT_QPS")
    ] = 300.0
    """Calls a second to the API server, over any length of time; 0 for no limit."""
    kube_client_burst: Annotated[
        int, Field(ge=1, le=100_000), Name("--kube-client-burst", "KUBE_CLIENT_BURST")
    ] = 600
    """Calls that may be made at once before that limit counts."""
    provisioner_answer_timeout: Annotated[
        Span, Name("--provisioner-answer-timeout", "PROVISIONER_ANSWER_TIMEOUT")
    ] = Deadlines.answer
    """How long a new Machine or NodeClaim may find no provisioner before that is called a fault."""
    node_launch_timeout: Annotated[Span, Name("--node-launch-timeout", "NODE_LAUNCH_TIMEOUT")] = (
        Deadlines.launch
    )
    """How long a provisioner may be at launching a machine before that is called a fault."""
    node_join_timeout: Annotated[Span, Name("--node-join-timeout", "NODE_JOIN_TIMEOUT")] = (
        Deadlines.join
    )
    """How long a launched machine may take to join the cluster before it is replaced."""
    gpu_ready_timeout: Annotated[Span, Name("--gpu-ready-timeout", "GPU_READY_TIMEOUT")] = (
        Deadlines.gpu
    )
    """How long a node may take to show its GPUs before that is called a fault."""
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Name("--log-level", "LOG_LEVEL")
    ] = "info"
    """Least severity that is logged."""
    log_format: Annotated[Literal["auto", "json", "text"], Name("--log-format", "LOG_FORMAT")] = (
        "auto"
    )
    """json, text, or auto: text on a terminal, JSON elsewhere."""

    @property
    def claims(self) -> ClaimApi:
        """How nodes come: what was asked for, else what a gate of an earlier release says."""
        if self.claim_api == "auto":
            for gate, api in GATES.items():
                if self.feature_gates.get(gate, False):
                    return api
        return self.claim_api

    @property
    def node_class(self) -> NodeClass:
        """The class that NodeClaims refer to."""
        own = NODE_CLASSES[self.cloud]
        kind = self.node_class_kind or own.kind
        group = self.node_class_group or GROUPS.get(kind, own.group)
        return NodeClass(group, kind, self.node_class_name or own.name)

    @property
    def deadlines(self) -> Deadlines:
        """How long each stage of a node's making may take."""
        return Deadlines(
            answer=self.provisioner_answer_timeout,
            launch=self.node_launch_timeout,
            join=self.node_join_timeout,
            gpu=self.gpu_ready_timeout,
        )

    @property
    def webhook_hosts(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The DNS names and the IP addresses that the webhook's certificate must carry."""
        service = f"{self.webhook_service}.{self.namespace}"
        names = [f"{service}.svc", f"{service}.svc.cluster.local"]
        host = urlsplit(self.webhook_url).hostname if self.webhook_url else None
        if host is None:
            return tuple(names), ()
        try:
            return tuple(names), (str(ipaddress.ip_address(host)),)
        except ValueError:
            return (*names, host), ()


class BadSettings(Exception):
    """One or more settings cannot be used; the text names each."""


def load(
    arguments: Sequence[str], environment: Mapping[str, str], namespace_file: Path = NAMESPACE_FILE
) -> Settings:
    """The settings from flags and environment.

    Raises:
        BadSettings: values that cannot be used, all of them.
        SystemExit: `--help`, `--version`, or a flag that does not exist.
    """
    given = {name: value for name, value in vars(_parser().parse_args(arguments)).items() if value}
    names = _names()
    found = {
        field: environment[name.env] for field, name in names.items() if environment.get(name.env)
    }
    if namespace_file.exists():
        found.setdefault("namespace", namespace_file.read_text(encoding="utf-8").strip())
    try:
        return Settings.model_validate(found | given)
    except ValidationError as error:
        raise BadSettings("\n".join(_complaint(each, names) for each in error.errors())) from error


def _names() -> dict[str, Name]:
    return {
        field: next(each for each in info.metadata if isinstance(each, Name))
        for field, info in Settings.model_fields.items()
    }


def _complaint(error: Any, names: Mapping[str, Name]) -> str:
    name = names[str(error["loc"][0])]
    what = "is required" if error["type"] == "missing" else error["msg"]
    return f"{name.env} ({name.flag}): {what.removeprefix('Value error, ')}"


def _shown(default: Any) -> str:
    """A default as a person would write it."""
    if not isinstance(default, timedelta):
        return f"{default:g}" if isinstance(default, float) else str(default)
    seconds = int(default.total_seconds())
    return f"{seconds // 60}m" if seconds % 60 == 0 else f"{seconds}s"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m workspace_controller",
        description=(
            "Turns Workspaces into GPU nodes and served models. Runs in a cluster, or outside one "
            "with KUBECONFIG. Each flag has an environment variable; the flag wins."
        ),
        epilog=(
            "Example, outside a cluster: KUBECONFIG=~/.kube/config python -m workspace_controller "
            "--preset-registry registry.example.com/models --namespace kaito-workspace "
            "--webhook false"
        ),
    )
    parser.add_argument("--version", action="version", version=f"workspace-controller {VERSION}")
    for field, name in _names().items():
        info = Settings.model_fields[field]
        text = " ".join((info.description or "").split())
        if info.annotation is bool:
            text += " true or false."
        if info.default not in (None, "", {}, ()) and not info.is_required():
            text += f" Default: {_shown(info.default)}."
        parser.add_argument(
            name.flag,
            dest=field,
            metavar="VALUE",
            nargs="?" if info.annotation is bool else None,
            const="true" if info.annotation is bool else None,
            help=f"{text} [{name.env}]".replace("%", "%%"),
        )
    return parser
