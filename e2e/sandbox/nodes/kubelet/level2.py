"""What level 2 adds to a control plane: images, service routing, and a node for the controllers.

Everything that is started or changed here is undone by `cleanup`, which needs nothing but the
sandbox's folder and so works after any crash.
"""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

from sandbox import images
from sandbox.controlplane import ControlPlane, kubeconfig
from sandbox.controlplane.addresses import free_ports, host_address
from sandbox.images.commands import Say
from sandbox.images.prepare import to_stderr
from sandbox.nodes.driver import NodeSpec
from sandbox.nodes.kubelet import cgroups, network
from sandbox.nodes.kubelet.boot import Machines
from sandbox.nodes.kubelet.driver import KubeletDriver
from sandbox.nodes.kubelet.settings import Paths, Settings
from sandbox.nodes.kubelet.vms import end, processes
from sandbox.processes import Process, spawn

SYSTEM_NODE = NodeSpec(
    name="aks-system-10000000-vmss000000",
    pool="system",
    provider_id="azure:///subscriptions/sandbox/virtualMachineScaleSets/aks-system/virtualMachines/0",
    vm_size="Standard_D4s_v5",
    gpus=0,
    labels={
        "agentpool": "system",
        "kubernetes.azure.com/agentpool": "system",
        "kubernetes.azure.com/mode": "system",
        "node.kubernetes.io/instance-type": "Standard_D4s_v5",
    },
    taints=(),
    zone=None,
    instance=0,
    region="",
    spot=False,
)


class ForeignClusterError(RuntimeError):
    """This host already routes the services of another cluster."""


class Level2:
    """Real nodes for one control plane, which has to listen where pods can reach it."""

    def __init__(self, folder: Path, plane: ControlPlane, *, say: Say = to_stderr) -> None:
        self._paths = Paths(folder.resolve())
        self._plane = plane
        self._say = say

    async def start(self, *, record: Callable[[Process], None] = lambda _: None) -> None:
        """Builds what is missing, routes Services from this host, and boots the system node.

        Takes seconds when the images are in the cache, else minutes. `record` is called with
        each process as soon as it exists; VMs are not among them, `cleanup` finds those itself.

        Raises:
            ImageError: an image could not be built.
            ForeignClusterError: another cluster's kube-proxy has rules here.
            NotRegisteredError: the system node did not come up.
        """
        await self.prepare()
        await self.start_routing(record)
        await self.start_system_node()

    async def prepare(self) -> None:
        """Builds the images and packages that the cache lacks, and notes what nodes boot from."""
        made = await images.prepare(self._plane.bin, self._say)
        Settings(
            url=self._plane.url,
            address=host_address(),
            bin=str(self._plane.bin),
            disk=str(made.disk),
            environment=str(made.environment),
        ).save(self._paths)

    async def start_routing(self, record: Callable[[Process], None]) -> None:
        """Makes ClusterIPs reachable from this host and from pods."""
        tables = await asyncio.to_thread(network.proxy_tables)
        if tables and not self._paths.forwarding_note.exists():
            raise ForeignClusterError(
                f"this host has the nftables {', '.join(tables)} of another cluster: take that"
                " down first (`make sandbox-down` in its folder), or delete the tables with nft"
            )
        network.enable_forwarding(self._paths.forwarding_note)
        record(self._start_kube_proxy())

    def _start_kube_proxy(self) -> Process:
        user = "system:kube-proxy"
        login = self._paths.kube_proxy.with_suffix(".kubeconfig")
        kubeconfig.with_certificate(
            login,
            url=self._plane.url,
            ca=self._plane.ca,
            user=user,
            credential=self._plane.authority.issue(user),
        )
        health, metrics = free_ports(2)
        config = network.kube_proxy_config(
            kubeconfig=login, health_port=health, metrics_port=metrics
        )
        self._paths.kube_proxy.write_text(config)
        command = [str(self._plane.bin / "kube-proxy"), *_kube_proxy_arguments(self._paths)]
        return spawn("kube-proxy", command, log=self._paths.log("kube-proxy"), guarded=False)

    async def start_system_node(self) -> None:
        """Boots the node that the controllers' pods run on."""
        await KubeletDriver(self._paths.sandbox).create(SYSTEM_NODE)

    async def close(self) -> None:
        """Ends and undoes all of it; see `cleanup`."""
        await asyncio.to_thread(cleanup, self._paths.sandbox)


def cleanup(folder: Path) -> None:
    """Ends every VM and kube-proxy of the sandbox in `folder` and undoes all they did to this host.

    Blocks for a second or so; a second call does nothing. Logs stay.

    Raises:
        RuntimeError: a process does not end although it was killed.
        OSError: a control group is still in use after 10 s.
    """
    paths = Paths(folder.resolve())
    arguments = _kube_proxy_arguments(paths)
    end(processes(lambda argv: argv[1:] == arguments))
    prefix = f"{paths.nodes}/"
    end(processes(lambda argv: argv[-1].startswith(prefix) and "-I" in argv))
    machines = Machines(paths)
    for name in machines.names():
        machines.remove(name)
    cgroups.remove(cgroups.sandbox_group(paths.sandbox), cgroups.mounted())
    network.restore(paths.forwarding_note)
    if paths.folder.exists():
        shutil.rmtree(paths.folder)


def _kube_proxy_arguments(paths: Paths) -> list[str]:
    return [f"--config={paths.kube_proxy}"]
