"""Installs the product's charts, exactly as a user would: with helm, into namespaces of their own.

The namespaces enforce the restricted Pod Security standard, so a chart that needs more fails here.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox.cluster.state import REPOSITORY
from sandbox.controlplane.admin import Admin
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


@dataclass(frozen=True)
class Helm:
    """The helm program, pointed at one cluster and at the folder of charts."""

    program: Path
    kubeconfig: Path
    admin: Admin
    charts: Path = REPOSITORY / "charts"

    async def install(self, release: Release, values: Mapping[str, Any]) -> None:
        """Installs a chart and waits until what it runs is ready.

        Raises:
            SandboxError: helm refused, or its Deployment was not ready in time; the text is helm's.
        """
        await self._make_namespace(release.namespace)
        command = (
            str(self.program),
            *("upgrade", "--install", release.name, str(self.charts / release.chart)),
            *("--namespace", release.namespace, "--kubeconfig", str(self.kubeconfig)),
            *("--values", "-", "--wait", "--timeout", f"{INSTALL_SECONDS:.0f}s"),
        )
        status, said = await _run(command, json.dumps(values))  # JSON is YAML too
        if status != 0:
            raise SandboxError(f"`{' '.join(command)}` failed:\n{said}")

    async def environment(self, release: Release) -> dict[str, str]:
        """Returns the environment that a chart's Deployment gives to its container.

        Raises:
            SandboxError: the release has no Deployment, or it takes a value from a place that a
                process outside the cluster does not have.
        """
        path = f"/apis/apps/v1/namespaces/{release.namespace}/deployments"
        found = (await self.admin.call("GET", path))["items"]
        if len(found) != 1:
            raise SandboxError(f"chart {release.chart} makes {len(found)} Deployments, not 1")
        container = found[0]["spec"]["template"]["spec"]["containers"][0]
        return {
            variable["name"]: _value(release, variable) for variable in container.get("env", ())
        }

    async def _make_namespace(self, name: str) -> None:
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        manifest = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": labels},
        }
        await self.admin.apply(f"/api/v1/namespaces/{name}", manifest)


def _value(release: Release, variable: Mapping[str, Any]) -> str:
    """What a variable of the container would hold."""
    if "valueFrom" not in variable:
        value: str = variable.get("value", "")
        return value
    fields = {"metadata.namespace": release.namespace, "metadata.name": f"{release.name}-process"}
    field = variable["valueFrom"].get("fieldRef", {}).get("fieldPath", "")
    if field not in fields:
        raise SandboxError(
            f"chart {release.chart} takes {variable['name']} from {variable['valueFrom']};"
            " the sandbox's processes have no such place"
        )
    return fields[field]


async def _run(command: Sequence[str], given: str) -> tuple[int, str]:
    """Runs a program with `given` as its input; returns its exit status and all it said."""
    program = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=clean_environment(),
    )
    try:
        async with asyncio.timeout(INSTALL_SECONDS + 15):
            said, _ = await program.communicate(given.encode())
    finally:
        if program.returncode is None:
            program.kill()
            await program.wait()
    assert program.returncode is not None
    return program.returncode, said.decode().strip()
