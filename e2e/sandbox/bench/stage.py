"""What the gpu-provisioner is measured on: a real API server, an emulated Azure, and itself.

Invariant: all of it ends with the `with` block, whatever ends that; nothing is shared between two.
"""

import asyncio
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from sandbox.aks.client import ControlClient
from sandbox.cluster.azure import NO_ID, Azure
from sandbox.controlplane import ControlPlane
from sandbox.controlplane.addresses import free_ports
from sandbox.controlplane.crds import apply_crds
from sandbox.errors import SandboxError
from sandbox.processes import Process, clean_environment, spawn

OPERATION, REGISTERED, JOIN, GPU = 20.0, 15.0, 5.0, 5.0
"""Seconds: an operation on a pool; until a node registers in it; until that is Ready; until its GPU
shows. So the first claim can be Ready after 25 s."""

FLOOR = REGISTERED + JOIN + GPU
READY_SECONDS = 30.0
UNLIMITED = 10_000


@dataclass(frozen=True)
class Stage:
    """All parts, running."""

    kubeconfig: Path
    control: ControlClient
    provisioner: Process
    log: Path


@asynccontextmanager
async def stage(folder: Path, *, shared: bool, throttled: bool) -> AsyncIterator[Stage]:
    """Brings all parts up, fresh.

    Args:
        folder: for all that they write.
        shared: whether claims share pools.
        throttled: whether AKS's request limits hold.

    Raises:
        SandboxError: a part did not become ready.
    """
    async with ControlPlane.start(folder / "control-plane") as plane:
        await apply_crds(plane.admin)
        [emulator_port, health, metrics] = free_ports(3)
        url, ca = f"https://127.0.0.1:{emulator_port}", folder / "aks" / "pki" / "ca.pem"
        emulator = _emulator(folder, plane.kubeconfig, emulator_port, throttled=throttled)
        provisioner: Process | None = None
        try:
            await _answers(emulator, f"{url}/_emulator/", ca)
            environment = _environment(folder, plane.kubeconfig, url, ca) | {
                "POOL_MODE": "shared" if shared else "dedicated",
                "HEALTH_PROBE_PORT": str(health),
                "METRICS_PORT": str(metrics),
                **({} if throttled else {"ARM_WRITE_BURST": str(UNLIMITED)}),
            }
            provisioner = spawn(
                "gpu-provisioner",
                (sys.executable, "-m", "gpu_provisioner"),
                log=folder / "gpu-provisioner.log",
                env=clean_environment(**environment),
            )
            await _answers(provisioner, f"http://127.0.0.1:{health}/readyz")
            async with ControlClient(url, ca) as control:
                yield Stage(plane.kubeconfig, control, provisioner, provisioner.log)
        finally:
            if provisioner is not None:
                await provisioner.stop()
            await emulator.stop(grace=0.0)


def _emulator(folder: Path, kubeconfig: Path, port: int, *, throttled: bool) -> Process:
    options = {
        "state": folder / "aks",
        "port": port,
        "node-driver": "simulated",
        "kubeconfig": kubeconfig,
        "speed": 1,
        "throttle": "on" if throttled else "off",
        "operation-seconds": OPERATION,
        "join-seconds": REGISTERED,
        "join-spread-seconds": 0,
        "ready-seconds": JOIN,
        "gpu-seconds": GPU,
    }
    arguments = [f"--{name}={value}" for name, value in options.items()]
    return spawn(
        "emulator",
        (sys.executable, "-m", "sandbox.aks", *arguments),
        log=folder / "emulator.log",
        env=clean_environment(),
    )


def _environment(folder: Path, kubeconfig: Path, url: str, ca: Path) -> dict[str, str]:
    token = folder / "azure-identity-token"
    token.write_text("an-assertion")
    settings = Azure(url).environment() | {"AZURE_CLIENT_ID": NO_ID}
    return settings | {
        "KUBECONFIG": str(kubeconfig),
        "SSL_CERT_FILE": str(ca),
        "AZURE_FEDERATED_TOKEN_FILE": str(token),
        "BIND_ADDRESS": "127.0.0.1",
        "LEADER_ELECT": "false",
        "LOG_LEVEL": "warning",
    }


async def _answers(process: Process, url: str, ca: Path | None = None) -> None:
    deadline = asyncio.get_running_loop().time() + READY_SECONDS
    while asyncio.get_running_loop().time() < deadline:
        process.ensure_alive()
        try:
            trusted = ssl.create_default_context(cafile=str(ca)) if ca else True
            async with httpx.AsyncClient(verify=trusted, trust_env=False) as http:
                if (await http.get(url)).is_success:
                    return
        except (httpx.TransportError, FileNotFoundError):
            pass
        await asyncio.sleep(0.1)
    raise SandboxError(f"{process.name} is not ready within {READY_SECONDS:g} s; see {process.log}")
