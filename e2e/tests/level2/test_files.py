import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from sandbox.nodes.kubelet import files
from sandbox.nodes.kubelet.labels import divide
from sandbox.nodes.kubelet.machine import Boot

PLAN = files.Plan(
    name="aks-gpu-1",
    folder=Path("/home/dev/.sandbox/level2/nodes/aks-gpu-1"),
    bin=Path("/home/dev/.cache/bin"),
    environment=Path("/home/dev/.cache/environment"),
    provider_id="azure:///subscriptions/s/vm/0",
    labels=divide({"kaito.sh/workspace": "w", "agentpool": "gpu"}),
    taints=("sku=gpu:NoSchedule", "spot:NoExecute"),
    subnet=7,
    kubelet_port=20250,
    address="10.0.0.4",
    cgroup_root="/gpu-workspaces-1/aks-gpu-1",
    name_servers=("10.0.0.2",),
)
SPEC = {"mounts": [{"destination": "/proc"}], "process": {}}


def test_no_host_path_gets_into_the_configuration() -> None:
    texts = files.texts(PLAN, SPEC)

    assert not [name for name, text in texts.items() if "/home/dev" in text]


def test_host_folders_are_mounted_before_what_could_hide_them() -> None:
    targets = [mount.target for mount in files.boot(PLAN).mounts]

    assert targets == ["/run/vm", "/run/bin", "/run/environment", "/var/lib", "/var/log"]


def test_what_all_nodes_share_is_mounted_read_only() -> None:
    shared = [mount for mount in files.boot(PLAN).mounts if "/.cache/" in mount.source]

    assert len(shared) == 2
    assert all(mount.read_only for mount in shared)


def test_the_kubelet_starts_when_containerd_listens() -> None:
    containerd, kubelet = files.boot(PLAN).daemons

    assert containerd.after == ""
    assert kubelet.after == files.SOCKET
    assert "--node-labels=agentpool=gpu,kaito.sh/workspace=w" in kubelet.argv


def test_containers_of_a_gpu_node_see_the_packages_read_only() -> None:
    texts = files.texts(PLAN, SPEC)
    mount = json.loads(texts["spec.json"])["mounts"][-1]

    assert mount["destination"] == "/opt/venv"
    assert mount["source"] == "/run/environment"
    assert "ro" in mount["options"]
    assert 'base_runtime_spec = "/run/vm/spec.json"' in texts["containerd.toml"]


def test_containers_of_other_nodes_do_not() -> None:
    plan = replace(PLAN, environment=None)
    texts = files.texts(plan, SPEC)

    assert json.loads(texts["spec.json"]) == SPEC
    assert "base_runtime_spec" not in texts["containerd.toml"]
    assert "/run/environment" not in [mount.target for mount in files.boot(plan).mounts]


def test_pods_get_addresses_of_the_nodes_own_subnet() -> None:
    network = json.loads(files.texts(PLAN, SPEC)["cni/pods.conflist"])

    assert network["plugins"][0]["ipam"]["ranges"] == [[{"subnet": "10.244.7.0/24"}]]


def test_the_kubelet_joins_as_the_cloud_told_it_to() -> None:
    kubelet = yaml.safe_load(files.texts(PLAN, SPEC)["kubelet.yaml"])

    assert kubelet["providerID"] == "azure:///subscriptions/s/vm/0"
    assert kubelet["cgroupRoot"] == "/gpu-workspaces-1/aks-gpu-1"
    assert kubelet["registerWithTaints"] == [
        {"key": "sku", "value": "gpu", "effect": "NoSchedule"},
        {"key": "spot", "effect": "NoExecute"},
    ]


def test_the_kubelets_port_is_closed_to_strangers() -> None:
    kubelet = yaml.safe_load(files.texts(PLAN, SPEC)["kubelet.yaml"])

    assert kubelet["authentication"]["anonymous"] == {"enabled": False}
    assert kubelet["authorization"] == {"mode": "Webhook"}
    assert kubelet["readOnlyPort"] == 0


@pytest.mark.parametrize("environment", [PLAN.environment, None])
def test_a_vm_reads_what_was_written_for_it(tmp_path: Path, environment: Path | None) -> None:
    boot = files.boot(replace(PLAN, environment=environment))

    boot.save(tmp_path)

    assert Boot.load(tmp_path) == boot
