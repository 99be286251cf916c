"""The files that a VM boots from: configurations of containerd, CNI and the kubelet.

Pure: from a `Plan` to texts. Inside the VM every path is the same, whatever the sandbox's folder.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sandbox.nodes.kubelet.labels import Labels
from sandbox.nodes.kubelet.machine import Boot, Daemon, Mount

POD_NETWORK = "10.244.0.0/16"
PAUSE_IMAGE = "local/pause:1"
ENVIRONMENT = "/opt/venv"
"""Where containers find the model server's packages, as drivers are shown on GPU nodes."""

VM = "/run/vm"
BIN = "/run/bin"
PACKAGES = "/run/environment"
SOCKET = "/run/containerd/containerd.sock"


@dataclass(frozen=True)
class Plan:
    """What makes one VM different from the next; `folder` and the others are host folders."""

    name: str
    folder: Path
    bin: Path
    environment: Path | None
    provider_id: str
    labels: Labels
    taints: tuple[str, ...]
    subnet: int
    kubelet_port: int
    address: str
    cgroup_root: str
    name_servers: tuple[str, ...]


def boot(plan: Plan) -> Boot:
    """The mounts and daemons of the VM.

    `/run` is new and empty. `/var/lib` and `/var/log` come last, for what they hide: the
    sandbox's own folder may lie there.
    """
    folder = str(plan.folder)
    mounts = [Mount(folder, VM), Mount(str(plan.bin), BIN, read_only=True)]
    if plan.environment:
        mounts.append(Mount(str(plan.environment), PACKAGES, read_only=True))
    mounts += [Mount(f"{VM}/lib", "/var/lib"), Mount(f"{VM}/log", "/var/log")]
    containerd = ("containerd", "--config", f"{VM}/containerd.toml")
    return Boot(
        hostname=plan.name,
        mounts=tuple(mounts),
        daemons=(
            Daemon("containerd", containerd, "/var/log/containerd.log"),
            Daemon("kubelet", _kubelet_command(plan), "/var/log/kubelet.log", after=SOCKET),
        ),
    )


def _kubelet_command(plan: Plan) -> tuple[str, ...]:
    labels = ",".join(f"{key}={value}" for key, value in sorted(plan.labels.by_kubelet.items()))
    return (
        f"{BIN}/kubelet",
        f"--config={VM}/kubelet.yaml",
        f"--kubeconfig={VM}/kubeconfig",
        f"--hostname-override={plan.name}",
        f"--node-ip={plan.address}",
        *([f"--node-labels={labels}"] if labels else []),
    )


def texts(plan: Plan, spec: dict[str, Any]) -> dict[str, str]:
    """All configuration files by their name in the VM's folder.

    `spec` is containerd's default runtime specification, as `ctr oci spec` prints it.
    """
    return {
        "containerd.toml": _containerd(mounts_packages=plan.environment is not None),
        "spec.json": json.dumps(_base_spec(spec, mounts_packages=plan.environment is not None)),
        "cni/pods.conflist": json.dumps(_pod_network(plan.subnet), indent=2),
        "kubelet.yaml": yaml.safe_dump(_kubelet(plan), sort_keys=False),
        "resolv.conf": "".join(f"nameserver {each}\n" for each in plan.name_servers),
    }


def _containerd(*, mounts_packages: bool) -> str:
    base_spec = f'base_runtime_spec = "{VM}/spec.json"' if mounts_packages else ""
    return f"""\
version = 2
# Snapshotters for file systems that no VM has; each would log an error.
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE_IMAGE}"
# Without CAP_SYS_RESOURCE a negative score is refused, and runc ends with an EOF that explains nothing.
restrict_oom_score_adj = true
# So that network namespaces end with the VM's mounts.
netns_mounts_under_state_dir = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{VM}/cni"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
{base_spec}
"""


def _base_spec(spec: dict[str, Any], *, mounts_packages: bool) -> dict[str, Any]:
    if not mounts_packages:
        return spec
    mount = {
        "destination": ENVIRONMENT,
        "type": "bind",
        "source": PACKAGES,
        "options": ["rbind", "ro", "nosuid", "nodev"],
    }
    return {**spec, "mounts": [*spec["mounts"], mount]}


def _pod_network(subnet: int) -> dict[str, Any]:
    prefix = POD_NETWORK.split(".0.0/", maxsplit=1)[0]
    return {
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [
            {
                # A pair of devices and a host route for each pod, no bridge: all packets are
                # routed, so the answers of a Service pass the place that translated the request.
                "type": "ptp",
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": f"{prefix}.{subnet}.0/24"}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
        ],
    }


def _kubelet(plan: Plan) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "providerID": plan.provider_id,
        "address": plan.address,
        "port": plan.kubelet_port,
        "healthzPort": 0,
        "readOnlyPort": 0,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{VM}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "registerWithTaints": [_taint(each) for each in plan.taints],
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": plan.cgroup_root,
        "failCgroupV1": False,
        "failSwapOn": False,
        # The kubelet would leave chains behind in the host's tables.
        "makeIPTablesUtilChains": False,
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        "resolvConf": f"{VM}/resolv.conf",
        "clusterDNS": list(plan.name_servers),
        "clusterDomain": "cluster.local",
        # The disk is the host's: how full it is says nothing of this VM's images.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%"},
        "logging": {"format": "text"},
    }


def _taint(text: str) -> dict[str, str]:
    """Reads `key=value:Effect` or `key:Effect`."""
    label, _, effect = text.rpartition(":")
    key, _, value = label.partition("=")
    return (
        {"key": key, "value": value, "effect": effect} if value else {"key": key, "effect": effect}
    )
