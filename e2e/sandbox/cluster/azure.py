"""Starts the emulated AKS and says how a client reaches it.

A client needs only what it needs for the real Azure: addresses, names and a CA bundle.
"""

import sys
from dataclasses import dataclass

from sandbox.cluster.ground import Ground
from sandbox.cluster.state import REPOSITORY
from sandbox.processes import clean_environment

RUNTIME_PYTHON = REPOSITORY / "runtimes" / ".venv" / "bin" / "python"
NO_ID = "00000000-0000-0000-0000-000000000000"
LOCATION, RESOURCE_GROUP, CLUSTER = "eastus", "gpu-workspaces", "sandbox"
TOKEN_AUDIENCE = "api://AzureADTokenExchange"  # noqa: S105


@dataclass(frozen=True)
class Azure:
    """Where the emulated Azure answers, and how much faster than life it is."""

    url: str
    speed: float = 1.0

    def environment(self) -> dict[str, str]:
        """The settings of a program that works on this cluster."""
        return {
            "ARM_ENDPOINT": self.url,
            "AZURE_AUTHORITY_HOST": f"{self.url}/",
            "AZURE_TENANT_ID": NO_ID,
            "AZURE_CLIENT_ID": NO_ID,
            "ARM_SUBSCRIPTION_ID": NO_ID,
            "ARM_RESOURCE_GROUP": RESOURCE_GROUP,
            "AZURE_CLUSTER_NAME": CLUSTER,
            "LOCATION": LOCATION,
            # AKS takes one agent-pool PUT a minute, and this one's minutes are shorter.
            "ARM_WRITES_PER_MINUTE": f"{self.speed:g}",
        }


async def start(ground: Ground, *, host: str, port: int) -> Azure:
    """Starts the emulator and waits until it answers."""
    certificate = ground.authority.issue(
        "aks-emulator", hosts=("localhost",), addresses={"127.0.0.1", host, ground.host_address}
    )
    azure = Azure(f"https://{host}:{port}", ground.settings.speed)
    command = (
        *(sys.executable, "-m", "sandbox.aks"),
        f"--state={ground.folder / 'data' / 'aks'}",
        f"--host={host}",
        f"--port={port}",
        f"--cert={certificate.certificate}",
        f"--key={certificate.key}",
        f"--node-driver={ground.settings.nodes}",
        f"--kubeconfig={ground.kubeconfig}",
        f"--sandbox={ground.folder}",
        f"--runtime-python={RUNTIME_PYTHON}",
        f"--speed={ground.settings.speed:g}",
        f"--location={LOCATION}",
        f"--resource-group={RESOURCE_GROUP}",
        f"--cluster={CLUSTER}",
    )
    emulator = ground.start("emulator", command, clean_environment())
    await ground.answers(emulator, f"{azure.url}/_emulator/")
    ground.state.endpoints["emulator"] = azure.url
    return azure
