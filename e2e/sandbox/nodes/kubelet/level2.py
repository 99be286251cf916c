"""What level 2 adds to a control plane: real nodes, service routing, and images to run on them.

Whatever is started or changed here is undone by `cleanup`, which needs nothing but the sandbox's
folder and so works after any crash.
"""

import asyncio
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from sandbox import images
from sandbox.controlplane import ControlPlane, kubeconfig
from sandbox.controlplane.addresses import free_ports
from sandbox.errors import SandboxError
from sandbox.nodes.driver import NodeSpec
from sandbox.nodes.kubelet import cgroups, network, tenancy
from sandbox.nodes.kubelet.boot import Machines
from sandbox.nodes.kubelet.driver import KubeletDriver
from sandbox.nodes.kubelet.requirements import install_packages, obstacles
from sandbox.nodes.kubelet.settings import Paths, Settings
from sandbox.nodes.kubelet.vms import SYSTEM_PATH, end, end_all, processes
from sandbox.processes import Process, clean_environment, spawn

KUBE_PROXY = "kube-proxy"
KUBE_PROXY_USER = "system:kube-proxy"
ROUTING_SECONDS = 60.0

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


class Level2:
    """Real nodes for one control plane, which has to listen where pods can reach it."""

    def __init__(
        self, folder: Path, plane: ControlPlane, *, say: Callable[[str], None] = images.to_stderr
    ) -> None:
        self._paths = Paths(folder.resolve())
        self._plane = plane
        self._say = say
        self._kube_proxy: Process | None = None

    async def start(self, *, record: Callable[[Process], None] = lambda _: None) -> None:
        """Installs and builds what is missing, boots a node for the controllers, routes Services.

        Takes seconds when everything is in the cache, else minutes. `record` is called with each
        process as soon as it exists; VMs are not among them, `cleanup` finds those itself.

        Raises:
            SandboxError: this machine can't run nodes; a package or an image could not be had;
                another cluster's rules are in the way; or the node did not come up.
        """
        if found := obstacles():
            raise SandboxError(f"level 2 can't run here: {'; '.join(found)}")
        await asyncio.to_thread(_take_host, self._paths)
        await asyncio.to_thread(_refuse_another_cluster)
        await asyncio.to_thread(install_packages, self._say)
        made = await images.prepare(self._plane.bin, self._say)
        Settings(
            url=self._plane.url,
            address=self._plane.layout.advertise,
            bin=str(self._plane.bin),
            disk=str(made.disk),
            environment=str(made.environment),
        ).save(self._paths)
        network.enable_forwarding(self._paths.forwarding_note)
        self._say("booting the system node")
        await KubeletDriver(self._paths.sandbox).create(SYSTEM_NODE)
        await self._start_kube_proxy(record)

    async def _start_kube_proxy(self, record: Callable[[Process], None]) -> None:
        """Makes ClusterIPs reachable from this host and from pods."""
        config = self._paths.kube_proxy
        login = config.with_suffix(".kubeconfig")
        kubeconfig.with_certificate(
            login,
            url=self._plane.url,
            ca=self._plane.ca,
            user=KUBE_PROXY_USER,
            credential=self._plane.authority.issue(KUBE_PROXY_USER),
        )
        health, metrics = free_ports(2)
        config.write_text(
            network.kube_proxy_config(
                kubeconfig=login, node=SYSTEM_NODE.name, health_port=health, metrics_port=metrics
            )
        )
        self._kube_proxy = spawn(
            KUBE_PROXY,
            [str(self._plane.bin / KUBE_PROXY), *_kube_proxy_arguments(self._paths)],
            log=self._paths.log(KUBE_PROXY),
            env=clean_environment(PATH=SYSTEM_PATH),
            guarded=False,
        )
        record(self._kube_proxy)
        await _routes(self._kube_proxy, f"http://127.0.0.1:{health}/healthz")

    async def close(self) -> None:
        """Ends and undoes all of it; see `cleanup`."""
        if self._kube_proxy:
            await self._kube_proxy.stop(grace=0.0)
        await asyncio.to_thread(cleanup, self._paths.sandbox)


def _take_host(paths: Paths) -> None:
    while vanished := tenancy.former_tenant(paths):
        cleanup(vanished)


def _refuse_another_cluster() -> None:
    tables = network.proxy_tables()
    if tables:  # of our own, the last clean-up left none
        raise SandboxError(
            f"this host is a node of another cluster: it has the nftables {', '.join(tables)};"
            " if that cluster is gone, delete them with `nft delete table`"
        )


async def _routes(process: Process, url: str) -> None:
    """Waits until kube-proxy has written its rules."""
    deadline = time.monotonic() + ROUTING_SECONDS
    async with httpx.AsyncClient(trust_env=False, timeout=5.0) as client:
        while True:
            process.ensure_alive()
            try:
                if (await client.get(url)).is_success:
                    return
            except httpx.TransportError:
                pass  # it does not listen yet
            if time.monotonic() > deadline:
                raise SandboxError(
                    f"kube-proxy wrote no rules in {ROUTING_SECONDS:.0f} s; the end of"
                    f" {process.log}:\n{process.log_tail()}"
                )
            await asyncio.sleep(0.1)


def cleanup(folder: Path) -> None:
    """Ends every VM and kube-proxy of the sandbox in `folder` and undoes all they did to this host.

    Blocks for a second or so; a second call does nothing. Logs stay.

    Raises:
        SandboxError: a process does not end although it was killed.
        OSError: a control group is still in use after 10 s.
    """
    paths = Paths(folder.resolve())
    arguments = _kube_proxy_arguments(paths)
    end(processes(lambda argv: argv[1:] == arguments))
    end_all(paths.nodes)
    machines = Machines(paths)
    for name in machines.names():
        machines.remove(name)
    cgroups.remove(cgroups.sandbox_group(paths.sandbox), cgroups.mounted())
    if tenancy.has_host(paths):
        network.restore(paths.forwarding_note)
    if paths.folder.exists():
        shutil.rmtree(paths.folder)
    tenancy.leave(paths)


def _kube_proxy_arguments(paths: Paths) -> list[str]:
    return [f"--config={paths.kube_proxy}"]
