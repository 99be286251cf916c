"""A real API server, an emulated Azure, the chart installed, and the provisioner as a process."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from provisioner_world.bench import Bench
from provisioner_world.processes import NAMESPACE, AzureProcess, ProvisionerProcess
from provisioner_world.sharing import Sharing

from controlkit.kube.client import KubeClient
from sandbox import tools
from sandbox.aks.client import ControlClient
from sandbox.controlplane import ControlPlane
from sandbox.processes import clean_environment

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def service_account(control_plane: ControlPlane, apply_crds: list[str]) -> Path:
    """A kubeconfig with the rights that the chart gives, and no others."""
    values = {
        "replicas": "0",
        "controller.image.repository": "example.com/gpu-provisioner",
        "crds.install": "false",
    }
    sets = [part for name, value in values.items() for part in ("--set", f"{name}={value}")]
    subprocess.run(
        [
            *(str(tools.binaries() / "helm"), "install", "gpu-provisioner"),
            *(str(ROOT / "charts/gpu-provisioner"), *sets),
            *("--namespace", NAMESPACE, "--create-namespace"),
        ],
        check=True,
        capture_output=True,
        env=clean_environment(KUBECONFIG=str(control_plane.kubeconfig)),
    )
    return asyncio.run(control_plane.kubeconfig_for("gpu-provisioner", NAMESPACE))


@pytest.fixture(scope="session")
def azure(
    control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AzureProcess]:
    """The emulated Azure, running."""
    process = AzureProcess(control_plane.kubeconfig, tmp_path_factory.mktemp("azure"))
    try:
        process.start()
        yield process
    finally:
        process.kill()


@pytest.fixture(scope="session")
def provisioner_process(
    service_account: Path, azure: AzureProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ProvisionerProcess]:
    process = ProvisionerProcess(service_account, azure, tmp_path_factory.mktemp("provisioner"))
    yield process
    process.stop()


@pytest.fixture
def provisioner(provisioner_process: ProvisionerProcess) -> ProvisionerProcess:
    """The provisioner, running; a test that starts it otherwise must stop it."""
    provisioner_process.ensure()
    return provisioner_process


@pytest.fixture
def sharing_provisioner(provisioner_process: ProvisionerProcess) -> ProvisionerProcess:
    """The provisioner, sharing pools; started anew, or it would count on pools of an earlier test."""
    provisioner_process.start(POOL_MODE="shared")
    return provisioner_process


@pytest.fixture
async def bench(provisioner: ProvisionerProcess, world: Bench) -> Bench:
    """A world without claims, before and after the test, and a provisioner as it comes."""
    return world


@pytest.fixture
async def sharing(sharing_provisioner: ProvisionerProcess, world: Bench) -> Sharing:
    """The same, and a provisioner that shares pools."""
    return Sharing(world)


@pytest.fixture
async def world(
    control_plane: ControlPlane,
    azure: AzureProcess,
    provisioner_process: ProvisionerProcess,
    namespace: str,
) -> AsyncIterator[Bench]:
    """A world without claims, before and after the test."""
    client = await KubeClient.connect(
        user_agent="test", field_manager="test", kubeconfig=control_plane.kubeconfig
    )
    async with client, ControlClient(azure.url, azure.ca) as control:
        bench = Bench(client, azure, control, provisioner_process, namespace)
        yield bench
        await bench.clean()
