"""Runs the two controllers as processes under the charts' own ServiceAccounts.

They get the environment that the chart's Deployment would give them, and the chart's RBAC and
nothing more: a variable or a permission that a chart forgets fails here as it would in a cluster.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sandbox.cluster.azure import TOKEN_AUDIENCE, Azure
from sandbox.cluster.charts import PROVISIONER, WORKSPACE, Release
from sandbox.cluster.ground import Ground
from sandbox.cluster.state import Settings, shell_exports
from sandbox.processes import clean_environment

IMAGE_TAG = "dev"
REGISTRY = "local"
TOKEN_SECONDS = 30 * 24 * 3600
"""Nobody renews the tokens of a sandbox, so they outlive it."""


@dataclass(frozen=True)
class Ports:
    """The ports of the controllers' processes."""

    webhook: int
    workspace_metrics: int
    workspace_health: int
    provisioner_metrics: int
    provisioner_health: int


def workspace_values(
    settings: Settings, *, replicas: int, hub: str, registries: Sequence[str] = ()
) -> dict[str, object]:
    """The values of the workspace chart for this sandbox; its `registries` speak plain HTTP."""
    provisioner: dict[str, object] = {"claimApi": settings.claim_api}
    if settings.node_class:
        parts = zip(("group", "kind", "name"), settings.node_class.split("/"), strict=True)
        provisioner["nodeClass"] = dict(parts)
    return {
        "replicaCount": replicas,
        "image": {"repository": f"{REGISTRY}/workspace", "tag": IMAGE_TAG, "pullPolicy": "Never"},
        "presetRegistryName": REGISTRY,
        "runtimeImageTag": IMAGE_TAG,
        "modelHub": {"endpoint": hub},
        "insecureRegistries": list(registries),
        "nodeProvisioner": provisioner,
        "allowPrivateDataUrls": True,  # data is served on the host's own addresses
        "nvidiaDevicePlugin": {"enabled": False},  # the nodes' driver advertises their GPUs
    }


def webhook_values(host: str, port: int) -> dict[str, object]:
    """The values that lead the API server to a webhook outside the cluster."""
    return {"webhook": {"port": port, "url": f"https://{host}:{port}/validate/workspace.kaito.sh"}}


def provisioner_values(azure: Azure, *, replicas: int, ca: Path) -> dict[str, object]:
    """The values of the gpu-provisioner chart for the emulated Azure behind the authority `ca`."""
    settings = azure.environment()
    identity = {
        "clientId": settings.pop("AZURE_CLIENT_ID"),
        "tenantId": settings.pop("AZURE_TENANT_ID"),
        "projectToken": True,  # no webhook injects one here, as AKS's does
    }
    image = {"repository": f"{REGISTRY}/gpu-provisioner", "tag": IMAGE_TAG, "pullPolicy": "Never"}
    return {
        "replicas": replicas,
        "controller": {
            "image": image,
            "env": [{"name": name, "value": value} for name, value in settings.items()],
        },
        "workloadIdentity": identity,
        "caBundle": ca.read_text(),
    }


async def start_workspace_controller(ground: Ground, ports: Ports) -> None:
    """Starts the workspace controller and waits until it is ready."""
    own = {
        "METRICS_BIND_ADDRESS": f"127.0.0.1:{ports.workspace_metrics}",
        "HEALTH_PROBE_BIND_ADDRESS": f"127.0.0.1:{ports.workspace_health}",
    }
    ground.state.endpoints["workspace-controller"] = f"http://127.0.0.1:{ports.workspace_metrics}"
    await _start(
        ground,
        WORKSPACE,
        name="workspace-controller",
        module="workspace_controller",
        own=own,
        health=f"http://127.0.0.1:{ports.workspace_health}/readyz",
    )


async def start_provisioner(ground: Ground, ports: Ports) -> None:
    """Starts the gpu-provisioner, signed in to the emulated Azure, and waits until it is ready."""
    token = ground.folder / "pki" / "service-accounts" / "gpu-provisioner.azure.token"
    token.parent.mkdir(parents=True, exist_ok=True)
    token.touch(mode=0o600)
    token.write_text(
        await ground.plane.admin.token(
            PROVISIONER.service_account,
            PROVISIONER.namespace,
            seconds=TOKEN_SECONDS,
            audiences=(TOKEN_AUDIENCE,),
        )
    )
    own = {
        "AZURE_FEDERATED_TOKEN_FILE": str(token),
        "SSL_CERT_FILE": str(ground.plane.ca),
        "BIND_ADDRESS": "127.0.0.1",
        "METRICS_PORT": str(ports.provisioner_metrics),
        "HEALTH_PROBE_PORT": str(ports.provisioner_health),
    }
    ground.state.endpoints["gpu-provisioner"] = f"http://127.0.0.1:{ports.provisioner_metrics}"
    await _start(
        ground,
        PROVISIONER,
        name="gpu-provisioner",
        module="gpu_provisioner",
        own=own,
        health=f"http://127.0.0.1:{ports.provisioner_health}/readyz",
    )


async def _start(
    ground: Ground,
    release: Release,
    *,
    name: str,
    module: str,
    own: Mapping[str, str],
    health: str,
) -> None:
    kubeconfig = await ground.plane.kubeconfig_for(
        release.service_account, release.namespace, seconds=TOKEN_SECONDS
    )
    environment = await ground.helm.environment(release)
    environment |= {"KUBECONFIG": str(kubeconfig), **own}
    _env_file(ground, name).write_text(shell_exports(environment))
    if name in ground.settings.without:
        ground.say(
            f"without {name}; start it yourself: `. {_env_file(ground, name)}` and `python -m {module}`"
        )
        return
    command = (sys.executable, "-m", module)
    process = ground.start(name, command, clean_environment(**environment))
    await ground.answers(process, health)


def _env_file(ground: Ground, name: str) -> Path:
    return ground.folder / f"{name}.env"
