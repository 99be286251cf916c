"""The environment, read once at start: the only reader of it.

Invariant: the program starts with settings that make sense, or not at all; then it names every
problem at once, each with the variable, its value and the remedy.
"""

import os
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from gpu_provisioner.claims.shape import PoolMode

ClaimApi = Literal["auto", "machine", "nodeclaim", "both"]

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class SettingsError(Exception):
    """The environment does not make sense; the text lists every problem with its remedy."""


def _duration(text: object) -> object:
    if not isinstance(text, str):
        return text
    found = _DURATION.fullmatch(text.strip())
    if found is None or not any(found.groups()):
        raise ValueError('must be a duration such as "15m", "90s" or "1h30m"')
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return timedelta(hours=hours, minutes=minutes, seconds=seconds)


def _own_namespace() -> str:
    return _NAMESPACE_FILE.read_text().strip() if _NAMESPACE_FILE.exists() else "gpu-provisioner"


Duration = Annotated[timedelta, BeforeValidator(_duration), Field(gt=timedelta(0))]
HttpsUrl = Annotated[str, Field(pattern=r"^https://[^/\s]+/?$")]
Port = Annotated[int, Field(ge=1, le=65_535)]
Word = Annotated[str, Field(min_length=1)]


class Settings(BaseSettings):
    """What can be set, under the name of its environment variable.

    Each field's description is its line in `--help`.
    """

    model_config = SettingsConfigDict(
        str_strip_whitespace=True,
        env_ignore_empty=True,
        frozen=True,
        extra="ignore",
        case_sensitive=True,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )

    subscription_id: Annotated[Word, Field(alias="ARM_SUBSCRIPTION_ID")]
    """Subscription of the managed cluster."""
    resource_group: Annotated[Word, Field(alias="ARM_RESOURCE_GROUP")]
    """Resource group of the managed cluster (not the node resource group)."""
    cluster_name: Annotated[Word, Field(alias="AZURE_CLUSTER_NAME")]
    """Name of the managed cluster."""
    location: Annotated[str, Field(alias="LOCATION")] = ""
    """Azure region of the cluster, for messages about failures."""

    deployment_mode: Annotated[
        Literal["self-hosted", "managed"], Field(alias="DEPLOYMENT_MODE")
    ] = "self-hosted"
    """self-hosted signs in by workload identity, managed by whatever identity the host has."""
    tenant_id: Annotated[str, Field(alias="AZURE_TENANT_ID")] = ""
    """Directory of the identity; needed for workload identity."""
    client_id: Annotated[str, Field(alias="AZURE_CLIENT_ID")] = ""
    """Client id of the identity; needed for workload identity."""
    federated_token_file: Annotated[Path | None, Field(alias="AZURE_FEDERATED_TOKEN_FILE")] = None
    """Projected ServiceAccount token; needed for workload identity."""
    authority_host: Annotated[HttpsUrl, Field(alias="AZURE_AUTHORITY_HOST")] = (
        "https://login.microsoftonline.com/"
    )
    """Where tokens are issued."""
    cloud: Annotated[
        Literal["AzureCloud", "AzureUSGovernment", "AzureChinaCloud"], Field(alias="AZURE_CLOUD")
    ] = "AzureCloud"
    """Which of Azure's clouds, when ARM_ENDPOINT is not set."""
    arm_endpoint: Annotated[HttpsUrl | None, Field(alias="ARM_ENDPOINT")] = None
    """Azure Resource Manager's address, for private clouds."""
    arm_api_version: Annotated[
        str, Field(alias="ARM_API_VERSION", pattern=r"^\d{4}-\d{2}-\d{2}(-preview)?$")
    ] = "2026-08-01"
    """Version of Microsoft.ContainerService that is spoken."""

    arm_timeout: Annotated[Duration, Field(alias="ARM_TIMEOUT")] = timedelta(seconds=20)
    """How long one request to Azure may take before its outcome is looked up."""
    arm_write_burst: Annotated[int, Field(alias="ARM_WRITE_BURST", ge=1, le=10_000)] = 20
    """Agent-pool PUTs that AKS takes at once; more wait here rather than be refused."""
    arm_writes_per_minute: Annotated[
        float, Field(alias="ARM_WRITES_PER_MINUTE", gt=0, le=600_000)
    ] = 1.0
    """Agent-pool PUTs that AKS takes a minute after that."""

    pool_mode: Annotated[PoolMode, Field(alias="POOL_MODE")] = "dedicated"
    """dedicated makes an agent pool for each claim, shared one for all claims of a shape."""
    empty_pool_delay: Annotated[Duration, Field(alias="EMPTY_POOL_DELAY")] = timedelta(minutes=5)
    """How long a shared pool without nodes is kept for further claims of its shape."""
    claim_api: Annotated[ClaimApi, Field(alias="CLAIM_API")] = "auto"
    """Claims to serve: machine, nodeclaim, both, or auto for whatever the cluster has."""
    launch_timeout: Annotated[Duration, Field(alias="LAUNCH_TIMEOUT")] = timedelta(minutes=15)
    """How long AKS may take to make a pool, from the request on."""
    registration_timeout: Annotated[Duration, Field(alias="REGISTRATION_TIMEOUT")] = timedelta(
        minutes=15
    )
    """How long a node may take to join, from the request for its pool on."""
    on_timeout: Annotated[Literal["delete", "mark"], Field(alias="ON_TIMEOUT")] = "delete"
    """delete removes a claim that is over time with its pool; mark keeps both and says so."""
    on_insufficient_capacity: Annotated[
        Literal["retry", "delete"], Field(alias="ON_INSUFFICIENT_CAPACITY")
    ] = "retry"
    """retry keeps a claim that Azure has no machine for; delete hands it back to its creator."""
    collect_period: Annotated[Duration, Field(alias="COLLECT_PERIOD")] = timedelta(seconds=60)
    """How often to look for pools, claims and nodes that belong to nobody; two looks condemn."""

    leader_elect: Annotated[bool, Field(alias="LEADER_ELECT")] = True
    """Whether replicas agree on the one that acts."""
    lease_name: Annotated[Word, Field(alias="LEADER_ELECTION_NAME")] = "gpu-provisioner"
    """Name of the Lease."""
    lease_namespace: Annotated[
        str, Field(alias="LEADER_ELECTION_NAMESPACE", default_factory=_own_namespace)
    ]
    """Namespace of the Lease; the pod's own by default."""
    metrics_port: Annotated[Port, Field(alias="METRICS_PORT")] = 8080
    """Port of /metrics."""
    health_port: Annotated[Port, Field(alias="HEALTH_PROBE_PORT")] = 8081
    """Port of /healthz and /readyz."""
    bind_address: Annotated[Word, Field(alias="BIND_ADDRESS")] = "0.0.0.0"  # noqa: S104 (a pod's)
    """Address that both ports listen on."""
    kubeconfig: Annotated[Path | None, Field(alias="KUBECONFIG")] = None
    """Kubernetes configuration; in a pod, its ServiceAccount."""
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        BeforeValidator(lambda text: text.lower() if isinstance(text, str) else text),
        Field(alias="LOG_LEVEL"),
    ] = "info"
    """debug, info, warning or error."""
    log_format: Annotated[Literal["json", "console"], Field(alias="LOG_FORMAT")] = "json"
    """json for machines, console for people."""


def load() -> Settings:
    """The settings that the environment makes.

    Raises:
        SettingsError: with one line for every problem.
    """
    problems: list[str] = []
    settings = None
    try:
        settings = Settings()
    except ValidationError as error:
        problems += [_problem(str(detail["loc"][0]), detail) for detail in error.errors()]
    problems += _identity_problems()
    if settings is None or problems:
        listed = "\n".join(f"  - {line}" for line in problems)
        raise SettingsError(f"The environment does not make sense:\n{listed}")
    return settings


def _problem(name: str, detail: Mapping[str, Any]) -> str:
    meaning = _fields()[name].description or ""
    if detail["type"] == "missing":
        return f"{name}: not set. Set it to: {meaning[0].lower()}{meaning[1:]}"
    said = str(detail["msg"]).removeprefix("Value error, ")
    return f"{name}: {os.environ.get(name, '')!r} is not valid: {said}. It means: {meaning}"


def _identity_problems() -> list[str]:
    needed = ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE")
    lacking = [name for name in needed if not os.environ.get(name, "").strip()]
    if not lacking or os.environ.get("DEPLOYMENT_MODE", "").strip() == "managed":
        return []
    remedy = (
        "needed to sign in by workload identity. Label the pod azure.workload.identity/use=true "
        "and annotate its ServiceAccount (chart values workloadIdentity.*), or set "
        "DEPLOYMENT_MODE=managed"
    )
    return [f"{', '.join(lacking)}: not set, but {remedy}"]


def _fields() -> dict[str, FieldInfo]:
    return {str(field.alias): field for field in Settings.model_fields.values()}


def explain() -> str:
    """Every variable with its default and its meaning, as text for `--help`."""
    lines = []
    for name, field in _fields().items():
        default = None if field.is_required() or field.default_factory else field.default
        told = f" [{_shown(default)}]" if default not in {"", None} else ""
        needed = " (required)" if field.is_required() else ""
        lines.append(f"  {name}{told}{needed}\n      {field.description}")
    return "\n".join(lines)


def _shown(value: object) -> str:
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
        return f"{seconds:g}s" if seconds < 60 else f"{seconds / 60:g}m"
    return str(value).lower() if isinstance(value, bool) else str(value)
