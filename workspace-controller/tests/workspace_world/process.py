"""The controller as a process, run as the chart's Deployment would run it."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from sandbox import tools
from sandbox.controlplane import ControlPlane
from sandbox.controlplane.addresses import free_ports
from sandbox.processes import Process, clean_environment, spawn

NAMESPACE = "kaito-workspace"
ROOT = Path(__file__).resolve().parents[3]


def install(plane: ControlPlane, folder: Path, *, crds: bool) -> "ControllerProcess":
    """The chart installed, and the controller ready to be started under its ServiceAccount.

    Args:
        plane: where to; one release for each.
        folder: for logs.
        crds: whether the chart brings the definition of Workspaces, and nothing that of claims.
    """
    port = free_ports(1)[0]
    values = {
        "replicaCount": "0",
        "image.repository": "example.com/workspace",
        "presetRegistryName": "registry.example.com/gpu",
        "crds.install": str(crds).lower(),
        "nvidiaDevicePlugin.enabled": "false",
        "webhook.url": f"https://127.0.0.1:{port}/validate/workspace.kaito.sh",
    }
    sets = [part for name, value in values.items() for part in ("--set", f"{name}={value}")]
    subprocess.run(
        [
            *(str(tools.binaries() / "helm"), "install", "workspace"),
            *(str(ROOT / "charts/workspace"), *sets),
            *("--namespace", NAMESPACE, "--create-namespace"),
        ],
        check=True,
        capture_output=True,
        env=clean_environment() | {"KUBECONFIG": str(plane.kubeconfig)},
    )
    kubeconfig = asyncio.run(plane.kubeconfig_for("workspace-sa", NAMESPACE))
    return ControllerProcess(kubeconfig, folder, port)


@dataclass
class ControllerProcess:
    """The controller, run as the chart's Deployment would run it."""

    kubeconfig: Path
    folder: Path
    webhook_port: int
    process: Process | None = None
    health_port: int = 0
    changed: bool = False
    """It was started otherwise than the chart would."""

    def start(self, **environment: str) -> None:
        self.stop()
        self.changed = bool(environment)
        self.health_port = free_ports(1)[0]
        env = clean_environment() | {
            "KUBECONFIG": str(self.kubeconfig),
            "SYSTEM_NAMESPACE": NAMESPACE,
            "PRESET_REGISTRY_NAME": "registry.example.com/gpu",
            "MODEL_HUB_ENDPOINT": "http://hub.example.com",
            "WEBHOOK_PORT": str(self.webhook_port),
            "WEBHOOK_URL": f"https://127.0.0.1:{self.webhook_port}/validate/workspace.kaito.sh",
            "HEALTH_PROBE_BIND_ADDRESS": f"127.0.0.1:{self.health_port}",
            "METRICS_BIND_ADDRESS": f"127.0.0.1:{free_ports(1)[0]}",
            # A killed leader's term would cost every restart 15 seconds.
            "LEADER_ELECT": "false",
            "LOG_LEVEL": "debug",
            "PYTHONASYNCIODEBUG": "0",
            **environment,
        }
        self.process = spawn(
            "workspace-controller",
            [sys.executable, "-m", "workspace_controller"],
            log=self.folder / "controller.log",
            env=env,
        )
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        assert self.process is not None
        deadline = time.monotonic() + 30
        said = ""
        while time.monotonic() < deadline:
            self.process.ensure_alive()
            with contextlib.suppress(httpx.TransportError):
                answer = httpx.get(f"http://127.0.0.1:{self.health_port}/readyz", trust_env=False)
                if answer.is_success:
                    return
                said = answer.text
            time.sleep(0.03)
        pytest.fail(f"the controller is not ready: {said}\n{self.process.log_tail(60)}")

    def metrics(self) -> str:
        return httpx.get(f"http://127.0.0.1:{self.health_port}/metrics", trust_env=False).text

    def kill(self) -> None:
        """As `kill -9`."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGKILL)
        assert self.process.child is not None
        self.process.child.wait()
        self.process = None

    def stop(self) -> None:
        if self.process is not None:
            self.process.send(signal.SIGTERM)
            assert self.process.child is not None
            try:
                status = self.process.child.wait(timeout=12)
            except subprocess.TimeoutExpired:
                self.process.send(signal.SIGKILL)
                status = self.process.child.wait()
            log = self.process.log_tail(40)
            self.process = None
            assert status == 0, f"the controller ended with {status}:\n{log}"
