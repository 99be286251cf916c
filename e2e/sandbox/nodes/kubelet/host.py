"""Makes this machine a host of real nodes for one control plane, and ordinary again.

Whatever is started or changed here is undone by `cleanup`, which needs nothing but the sandbox's
folder and so works after any crash.
"""

import asyncio
import shutil
from pathlib import Path

from sandbox import images
from sandbox.cluster.ground import Ground
from sandbox.controlplane import kubeconfig
from sandbox.controlplane.addresses import free_ports
from sandbox.errors import SandboxError
from sandbox.nodes.driver import NodeSpec
from sandbox.nodes.kubelet import cgroups, network
from sandbox.nodes.kubelet.boot import Machines
from sandbox.nodes.kubelet.driver import KubeletDriver
from sandbox.nodes.kubelet.requirements import install_packages, obstacles, prerequisites
from sandbox.nodes.kubelet.settings import Paths, Settings
from sandbox.nodes.kubelet.vms import SYSTEM_PATH, end, processes
from sandbox.processes import clean_environment

KUBE_PROXY = "kube-proxy"
KUBE_PROXY_USER = "system:kube-proxy"

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


async def bring_up(ground: Ground) -> None:
    """Installs and builds what is missing, routes Services, and boots a node for the controllers.

    Takes seconds when everything is in the cache, else minutes. The control plane must listen
    where pods can reach it.

    Raises:
        SandboxError: this machine can't be a host; a package or an image could not be had; or
            another cluster's rules are in the way.
        NotRegisteredError: the node did not come up.
    """
    if found := obstacles():
        raise SandboxError(f"level 2 can't run here: {'; '.join(found)}")
    await asyncio.to_thread(install_packages, ground.say)
    paths = Paths(ground.folder.resolve())
    made = await images.prepare(ground.bin, ground.say)
    Settings(
        url=ground.url,
        address=ground.host_address,
        bin=str(ground.bin),
        disk=str(made.disk),
        environment=str(made.environment),
    ).save(paths)
    await _open_network(paths)
    ground.say("booting the system node")
    await KubeletDriver(paths.sandbox).create(SYSTEM_NODE)
    await _start_kube_proxy(ground, paths)


async def _open_network(paths: Paths) -> None:
    tables = await asyncio.to_thread(network.proxy_tables)
    if tables and not paths.forwarding_note.exists():
        raise SandboxError(
            f"this host has the nftables {', '.join(tables)} of another cluster: take that"
            " down first (`make sandbox-down` in its folder), or delete the tables with nft"
        )
    network.enable_forwarding(paths.forwarding_note)


async def _start_kube_proxy(ground: Ground, paths: Paths) -> None:
    """Makes ClusterIPs reachable from this host and from pods."""
    login = paths.kube_proxy.with_suffix(".kubeconfig")
    credential = ground.authority.issue(KUBE_PROXY_USER)
    ca = ground.authority.credential.certificate
    kubeconfig.with_certificate(
        login, url=ground.url, ca=ca, user=KUBE_PROXY_USER, credential=credential
    )
    health, metrics = free_ports(2)
    config = network.kube_proxy_config(
        kubeconfig=login, node=SYSTEM_NODE.name, health_port=health, metrics_port=metrics
    )
    paths.kube_proxy.write_text(config)
    command = [str(ground.bin / KUBE_PROXY), *_kube_proxy_arguments(paths)]
    process = ground.start(KUBE_PROXY, command, clean_environment(PATH=SYSTEM_PATH))
    await ground.answers(process, f"http://127.0.0.1:{health}/livez")


async def tear_down(folder: Path) -> None:
    """Makes the machine ordinary again; see `cleanup`."""
    await asyncio.to_thread(cleanup, folder)


def missing() -> list[str]:
    """Says in sentences what this machine lacks for real nodes."""
    packages = prerequisites()
    return obstacles() + ([f"Debian packages: {' '.join(packages)}"] if packages else [])


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
