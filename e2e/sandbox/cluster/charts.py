"""Installs the product's charts, exactly as a user would: with helm, into namespaces of their own.

The namespaces enforce the restricted Pod Security standard, so a chart that needs more fails here.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sandbox.cluster.ground import Ground
from sandbox.cluster.state import REPOSITORY
from sandbox.errors import SandboxError
from sandbox.processes import clean_environment

INSTALL_SECONDS = 180.0


@dataclass(frozen=True)
class Release:
    """A chart of this repository as the sandbox installs it."""

    name: str
    chart: str
    namespace: str
    service_account: str


WORKSPACE = Release("workspace", "workspace", "kaito-workspace", "workspace-sa")
PROVISIONER = Release("gpu-provisioner", "gpu-provisioner", "gpu-provisioner", "gpu-provisioner")


async def install(ground: Ground, release: Release, values: Mapping[str, Any]) -> None:
    """Installs a chart and waits until what it runs is ready.

    Raises:
        SandboxError: helm refused, or its Deployment was not ready in time; the text is helm's.
    """
    await _make_namespace(ground, release.namespace)
    chart = REPOSITORY / "charts" / release.chart
    seconds = f"{INSTALL_SECONDS:.0f}s"
    command = (
        str(ground.bin / "helm"),
        *("upgrade", "--install", release.name, str(chart)),
        *("--namespace", release.namespace, "--kubeconfig", str(ground.kubeconfig)),
        *("--values", "-", "--wait", "--timeout", seconds),
    )
    helm = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=clean_environment(),
    )
    try:
        async with asyncio.timeout(INSTALL_SECONDS + 15):
            said, _ = await helm.communicate(json.dumps(values).encode())  # JSON is YAML too
    finally:
        if helm.returncode is None:
            helm.kill()
            await helm.wait()
    if helm.returncode != 0:
        raise SandboxError(f"`{' '.join(command)}` failed:\n{said.decode().strip()}")


async def deployment_environment(ground: Ground, release: Release) -> dict[str, str]:
    """Returns the environment that the chart's Deployment gives to its container.

    Raises:
        SandboxError: the release has no Deployment, or takes a value from a place that a process
            outside the cluster does not have.
    """
    path = f"/apis/apps/v1/namespaces/{release.namespace}/deployments"
    found = await ground.plane.admin.call("GET", path)
    if len(found["items"]) != 1:
        raise SandboxError(f"chart {release.chart} makes {len(found['items'])} Deployments, not 1")
    container = found["items"][0]["spec"]["template"]["spec"]["containers"][0]
    fields = {"metadata.namespace": release.namespace, "metadata.name": f"{release.name}-process"}
    environment = {}
    for variable in container.get("env", ()):
        if "valueFrom" not in variable:
            environment[variable["name"]] = variable.get("value", "")
            continue
        field = variable["valueFrom"].get("fieldRef", {}).get("fieldPath", "")
        if field not in fields:
            raise SandboxError(
                f"chart {release.chart} takes {variable['name']} from {variable['valueFrom']};"
                " the sandbox's processes have no such place"
            )
        environment[variable["name"]] = fields[field]
    return environment


async def _make_namespace(ground: Ground, name: str) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    manifest = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": labels},
    }
    await ground.plane.admin.apply(f"/api/v1/namespaces/{name}", manifest)
