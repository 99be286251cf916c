"""A client of the real API server, and the VM that most tests boot."""

import itertools
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from controlkit.kube.client import KubeClient
from sandbox.aks.testing import Starter
from sandbox.controlplane import ControlPlane
from sandbox.nodes.driver import NodeSpec

_numbers = itertools.count(1)


@pytest.fixture
async def client(control_plane: ControlPlane) -> AsyncIterator[KubeClient]:
    connection = await KubeClient.connect(
        user_agent="tests", field_manager="tests", kubeconfig=control_plane.kubeconfig
    )
    async with connection:
        yield connection


@pytest.fixture
def start(tmp_path: Path) -> Starter:
    return Starter.within(tmp_path)


@pytest.fixture
def make_spec() -> Callable[[], NodeSpec]:
    """Returns a VM of a name that no other test has."""

    def make() -> NodeSpec:
        name = f"aks-ws{os.getpid()}-{next(_numbers):08}-vmss000000"
        return NodeSpec(
            name=name,
            pool="ws1",
            provider_id=f"azure:///subscriptions/s/{name}/virtualMachines/0",
            vm_size="Standard_NC12s_v3",
            gpus=2,
            labels={
                "agentpool": "ws1",
                "kubernetes.azure.com/agentpool": "ws1",
                "kaito.sh/workspace": "w",
                "kubernetes.io/hostname": name,
            },
            taints=("sku=gpu:NoSchedule", "dedicated:NoExecute"),
            zone="eastus-1",
            instance=0,
            region="eastus",
            spot=False,
        )

    return make
