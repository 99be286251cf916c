"""A client, and a wire to the API server that tests can cut."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from controlkit.kube.client import KubeClient
from controlkit_testing import CutProxy
from sandbox.controlplane import ControlPlane


@pytest.fixture
async def client(control_plane: ControlPlane) -> AsyncIterator[KubeClient]:
    async with await connected(control_plane.kubeconfig) as client:
        yield client


@pytest.fixture
async def proxy(control_plane: ControlPlane) -> AsyncIterator[CutProxy]:
    async with CutProxy.to(control_plane.url) as proxy:
        yield proxy


@pytest.fixture
def proxied_kubeconfig(control_plane: ControlPlane, proxy: CutProxy, tmp_path: Path) -> Path:
    """Leads through the proxy."""
    config = yaml.safe_load(control_plane.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = proxy.url
    path = tmp_path / "proxied.kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture
async def proxied(proxied_kubeconfig: Path) -> AsyncIterator[KubeClient]:
    """A client whose every byte passes through the proxy."""
    async with await connected(proxied_kubeconfig) as client:
        yield client


async def connected(kubeconfig: Path) -> KubeClient:
    return await KubeClient.connect(
        user_agent="kit-tests", field_manager="kit-tests", kubeconfig=kubeconfig
    )
