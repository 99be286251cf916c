"""The emulated Azure and the provisioner, as the processes that they are.

Invariant: each is killed by the kernel when the test run ends, whatever ends it.
"""

import contextlib
import os
import signal
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from sandbox.controlplane.addresses import free_ports
from sandbox.processes import Process, clean_environment, spawn

NAMESPACE = "gpu-provisioner"
READY_SECONDS = 30.0


@dataclass
class AzureProcess:
    """The emulated Azure, ten times as fast as its own short timings."""

    kubeconfig: Path
    folder: Path
    port: int = field(default_factory=lambda: free_ports(1)[0])
    process: Process | None = None

    @property
    def url(self) -> str:
        """Address of ARM, of the token endpoint and of the control API."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def ca(self) -> Path:
        """What clients have to trust."""
        return self.folder / "pki" / "ca.pem"

    def start(self) -> None:
        """Starts it, on the state that it left if it ran before."""
        options = {
            "state": self.folder / "state",
            "pki": self.folder / "pki",
            "port": self.port,
            "node-driver": "simulated",
            "kubeconfig": self.kubeconfig,
            "speed": 10,
            "throttle": "off",
            "join-seconds": 5,
            "ready-seconds": 2,
            "gpu-seconds": 3,
            "remove-seconds": 5,
        }
        arguments = [f"--{name}={value}" for name, value in options.items()]
        self.process = spawn(
            "emulator",
            [sys.executable, "-m", "sandbox.aks", *arguments],
            log=self.folder / "emulator.log",
            env=clean_environment(),
        )
        _await(self.process, f"{self.url}/_emulator/", self.ca)

    def kill(self) -> None:
        """As `kill -9`."""
        _kill(self.process)


@dataclass
class ProvisionerProcess:
    """The provisioner, run as the chart's Deployment would run it."""

    kubeconfig: Path
    azure: AzureProcess
    folder: Path
    process: Process | None = None
    port: int = 0
    settings: dict[str, str] = field(default_factory=dict)

    def ensure(self, **environment: str) -> None:
        """Starts it with these settings, unless it runs with them."""
        if self.process is None or self.settings != environment:
            self.start(**environment)

    def start(self, module: str = "gpu_provisioner", **environment: str) -> None:
        """Starts it anew and waits until it is ready, or, if it is to die, does not wait.

        Args:
            module: the program.
            environment: settings on top of the usual ones.
        """
        self.stop()
        self.settings = environment
        self.port = free_ports(1)[0]
        token = self.folder / "azure-identity-token"
        token.write_text("an-assertion")
        no_id = "00000000-0000-0000-0000-000000000000"
        self.process = spawn(
            "gpu-provisioner",
            [sys.executable, "-m", module],
            log=self.folder / "provisioner.log",
            env=clean_environment(
                **{
                    "KUBECONFIG": str(self.kubeconfig),
                    "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
                    "ARM_ENDPOINT": self.azure.url,
                    "AZURE_AUTHORITY_HOST": f"{self.azure.url}/",
                    "SSL_CERT_FILE": str(self.azure.ca),
                    "AZURE_TENANT_ID": no_id,
                    "AZURE_CLIENT_ID": no_id,
                    "AZURE_FEDERATED_TOKEN_FILE": str(token),
                    "ARM_SUBSCRIPTION_ID": no_id,
                    "ARM_RESOURCE_GROUP": "gpu-workspaces",
                    "AZURE_CLUSTER_NAME": "sandbox",
                    "LOCATION": "eastus",
                    "ARM_TIMEOUT": "2s",
                    "ARM_WRITE_BURST": "1000",
                    "BIND_ADDRESS": "127.0.0.1",
                    "HEALTH_PROBE_PORT": str(self.port),
                    "METRICS_PORT": str(free_ports(1)[0]),
                    # A killed leader's term would cost every restart 15 seconds.
                    "LEADER_ELECT": "false",
                    **environment,
                }
            ),
        )
        if "DIE_AT" not in environment:
            _await(self.process, f"http://127.0.0.1:{self.port}/readyz")

    def died(self, what: str, seconds: float = 30.0) -> None:
        """Waits until it has been killed."""
        assert self.process is not None
        assert self.process.child is not None
        try:
            status = self.process.child.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the provisioner did not come to {what}:\n{self.log()}")
        assert status == -signal.SIGKILL, self.log()
        self.process = None

    def read(self, path: str) -> httpx.Response:
        """What it answers on its health port."""
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", trust_env=False)

    def log(self, lines: int = 40) -> str:
        """The end of its log."""
        return self.process.log_tail(lines) if self.process else "(it does not run)"

    def kill(self) -> None:
        """As `kill -9`."""
        _kill(self.process)
        self.process = None

    def stop(self) -> int:
        """Ends it with SIGTERM; returns the exit status, 0 when it did not run."""
        if self.process is None:
            return 0
        child = self.process.child
        assert child is not None
        self.process.send(signal.SIGTERM)
        try:
            return child.wait(timeout=12)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the provisioner does not stop:\n{self.log()}")
        finally:
            _kill(self.process)
            self.process = None


def _kill(process: Process | None) -> None:
    if process is not None and process.alive():
        os.kill(process.pid, signal.SIGKILL)
        assert process.child is not None
        process.child.wait()


def _await(process: Process, url: str, ca: Path | None = None) -> None:
    deadline = time.monotonic() + READY_SECONDS
    said = "no answer"
    while time.monotonic() < deadline:
        process.ensure_alive()
        with contextlib.suppress(httpx.TransportError, FileNotFoundError):
            trusted = ssl.create_default_context(cafile=ca) if ca else True
            answer = httpx.get(url, verify=trusted, trust_env=False)
            if answer.is_success:
                return
            said = answer.text
        time.sleep(0.05)
    pytest.fail(f"{process.name} is not ready: {said}\n{process.log_tail(40)}")
