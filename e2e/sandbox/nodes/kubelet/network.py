"""The host's share of the pod network: forwarding, kube-proxy's rules, addresses to hand out.

Pods' devices and routes belong to their VMs and end with them. What is changed on the host itself
is noted in the sandbox's folder before it is changed, so that `restore` can undo it.
"""

import ipaddress
import shutil
import subprocess
from collections.abc import Collection
from pathlib import Path

import yaml

from sandbox.nodes.kubelet.files import POD_NETWORK
from sandbox.nodes.kubelet.vms import SYSTEM_PATH
from sandbox.processes import clean_environment

FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
KUBE_PROXY_TABLES = (("ip", "kube-proxy"), ("ip6", "kube-proxy"))
MAX_NAME_SERVERS = 3
_RESOLVER_FILES = (Path("/run/systemd/resolve/resolv.conf"), Path("/etc/resolv.conf"))


def name_servers(address: str, files: Collection[Path] = _RESOLVER_FILES) -> tuple[str, ...]:
    """The host's own name servers that pods can reach; without any, `address`, which refuses.

    There is no cluster DNS: pods find Services by address. A refusal is quick, silence is not.
    """
    for file in files:
        if not file.exists():
            continue
        lines = [line.split() for line in file.read_text().splitlines()]
        servers = [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"]
        if usable := [each for each in servers if _reachable_from_pods(each)]:
            return tuple(usable[:MAX_NAME_SERVERS])
    return (address,)


def _reachable_from_pods(server: str) -> bool:
    try:
        address = ipaddress.ip_address(server)
    except ValueError:
        return False
    return address.version == 4 and not address.is_loopback


def kube_proxy_config(*, kubeconfig: Path, node: str, health_port: int, metrics_port: int) -> str:
    """The configuration file of the one kube-proxy that serves the host and all its pods.

    `node` is one that exists: kube-proxy waits half a minute for its own node's object.
    """
    config = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "hostnameOverride": node,
        "mode": "nftables",
        "clusterCIDR": POD_NETWORK,
        "detectLocalMode": "ClusterCIDR",
        "healthzBindAddress": f"127.0.0.1:{health_port}",
        "metricsBindAddress": f"127.0.0.1:{metrics_port}",
        # Zero leaves the host's own limits as they are.
        "conntrack": {
            "maxPerCore": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
        "nftables": {
            # Rules follow a Service within this time; the default batches for large clusters.
            "minSyncPeriod": "100ms",
            # It serves all VMs, so it can't tell which pods are local, and a pod whose own Service
            # sends it back to itself would miss the answer unless the host stands between.
            "masqueradeAll": True,
        },
    }
    return yaml.safe_dump(config, sort_keys=False)


def enable_forwarding(note: Path) -> None:
    """Lets the host route between pods, after noting in `note` how it was."""
    if not note.exists():
        note.write_text(FORWARDING.read_text())
    FORWARDING.write_text("1\n")


def restore(note: Path) -> None:
    """Undoes `enable_forwarding` and removes kube-proxy's tables.

    Without a note nothing was ever opened here, and the tables are another cluster's.
    """
    if not note.exists():
        return
    FORWARDING.write_text(note.read_text())
    for table in proxy_tables():
        _nft("delete", "table", *table.split())
    note.unlink()


def proxy_tables() -> list[str]:
    """The kube-proxy tables on this host, as `family name`; the host has room for one cluster."""
    if shutil.which("nft", path=SYSTEM_PATH) is None:
        return []
    tables = {tuple(line.split()[1:3]) for line in _nft("list", "tables").splitlines()}
    return [" ".join(table) for table in KUBE_PROXY_TABLES if table in tables]


def _nft(*arguments: str) -> str:
    environment = clean_environment(PATH=SYSTEM_PATH)
    return subprocess.run(
        ["nft", *arguments], env=environment, capture_output=True, text=True, check=True
    ).stdout
