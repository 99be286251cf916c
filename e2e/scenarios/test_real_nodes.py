"""Level 2 without the product: nodes join, pods answer, and nothing of it stays on the host."""

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from sandbox.controlplane import ControlPlane
from sandbox.nodes.driver import NodeSpec
from sandbox.nodes.kubelet import (
    KubeletDriver,
    Level2,
    NotRegisteredError,
    host_address,
    obstacles,
)
from sandbox.nodes.kubelet.settings import Paths, Settings
from sandbox.nodes.kubelet.vms import processes

pytestmark = pytest.mark.skipif(bool(obstacles()), reason="; ".join(obstacles()))

PORT = 8080


def gpu_node(instance: int) -> NodeSpec:
    """What the emulated AKS tells a GPU node's VM."""
    return NodeSpec(
        name=f"aks-gpu-vmss00000{instance}",
        pool="gpu",
        provider_id=f"azure:///subscriptions/s/vmss/aks-gpu/virtualMachines/{instance}",
        vm_size="Standard_NC6s_v3",
        gpus=2,
        labels={
            "kaito.sh/workspace": "phi",
            "kubernetes.azure.com/agentpool": "gpu",
            "node-role.kubernetes.io/agent": "",
            "node.kubernetes.io/instance-type": "Standard_NC6s_v3",
        },
        taints=("sku=gpu:NoSchedule",),
        zone=None,
        instance=instance,
        region="eastus",
        spot=False,
    )


@dataclass(frozen=True)
class Cluster:
    """A control plane with level 2, and a driver for it."""

    folder: Path
    plane: ControlPlane
    driver: KubeletDriver
    run: Callable[..., Any]

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        done = subprocess.run(
            [self.plane.bin / "kubectl", f"--kubeconfig={self.plane.kubeconfig}", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def node(self, spec: NodeSpec) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.kubectl("get", "node", spec.name, "-o", "json"))
        return found

    def boot(self, spec: NodeSpec) -> None:
        self.run(self.driver.create(spec))
        self.kubectl("wait", "--for=condition=Ready", f"node/{spec.name}", "--timeout=60s")

    def deploy_web(self) -> None:
        self.kubectl("apply", "-f", "-", stdin=json.dumps(_web()))
        self.kubectl("rollout", "status", "deployment/web", "--timeout=60s")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("sandbox")
    with asyncio.Runner() as runner:
        plane = runner.run(
            ControlPlane.launch(folder, controllers=True, guarded=True, bind=host_address())
        )
        level2 = Level2(folder, plane)
        try:
            runner.run(level2.start())
            yield Cluster(folder, plane, KubeletDriver(folder), runner.run)
        finally:
            runner.run(level2.close())
            runner.run(plane.stop(grace=0.0))


def test_a_node_joins_as_the_cloud_describes_it(cluster: Cluster) -> None:
    spec = gpu_node(0)

    cluster.boot(spec)
    cluster.run(cluster.driver.advertise_gpu(spec))

    node = cluster.node(spec)
    assert node["spec"]["providerID"] == spec.provider_id
    assert spec.labels.items() <= node["metadata"]["labels"].items()
    assert {"key": "sku", "value": "gpu", "effect": "NoSchedule"} in node["spec"]["taints"]
    assert node["status"]["capacity"]["nvidia.com/gpu"] == "2"
    assert node["status"]["allocatable"]["nvidia.com/gpu"] == "2"


def test_creating_a_node_again_leaves_its_vm_alone(cluster: Cluster) -> None:
    spec = gpu_node(0)
    cluster.boot(spec)
    before = _vm_processes(cluster, spec)

    cluster.run(KubeletDriver(cluster.folder).create(spec))

    assert before
    assert _vm_processes(cluster, spec) == before


def test_pods_of_two_nodes_answer_at_their_service_wherever_it_is_asked(cluster: Cluster) -> None:
    for spec in (gpu_node(0), gpu_node(1)):
        cluster.boot(spec)
    cluster.deploy_web()
    address = cluster.kubectl("get", "service", "web", "-o", "jsonpath={.spec.clusterIP}")
    pods = json.loads(cluster.kubectl("get", "pods", "-l", "app=web", "-o", "json"))["items"]

    assert len({pod["spec"]["nodeName"] for pod in pods}) == 2
    assert _answers(f"http://{address}/") == 200
    for pod in pods:
        # Eight tries reach the asking pod itself, too, in 255 of 256 runs.
        asked = cluster.kubectl("exec", pod["metadata"]["name"], "--", *_ask(address, times=8))
        assert asked.split() == ["200"] * 8


def test_pods_reach_the_api_server_and_programs_of_the_host(cluster: Cluster) -> None:
    cluster.boot(gpu_node(0))
    cluster.deploy_web()
    script = (
        "import os, ssl, urllib.request as u;"
        "trust = ssl.create_default_context("
        "cafile='/var/run/secrets/kubernetes.io/serviceaccount/ca.crt');"
        "print(u.urlopen('https://%s/version' % os.environ['KUBERNETES_SERVICE_HOST'],"
        " timeout=5, context=trust).status);"
        f"print(u.urlopen('{cluster.plane.url}/version', timeout=5, context=trust).status)"
    )

    asked = cluster.kubectl("exec", "deployment/web", "--", "python3", "-c", script)

    assert asked.split() == ["200", "200"]


def test_containers_of_a_gpu_node_see_the_model_servers_packages(cluster: Cluster) -> None:
    cluster.boot(gpu_node(0))
    cluster.deploy_web()

    cluster.kubectl("exec", "deployment/web", "--", "/opt/venv/bin/python3", "-c", "import numpy")


def test_a_kubelet_that_dies_is_started_again_and_its_gpus_stay(cluster: Cluster) -> None:
    spec = gpu_node(0)
    cluster.boot(spec)
    cluster.run(cluster.driver.advertise_gpu(spec))
    (before,) = _kubelets(spec)
    seen = _heartbeat(cluster, spec)

    os.kill(before, signal.SIGKILL)

    _until(lambda: _kubelets(spec) not in ([before], []))
    _until(lambda: _heartbeat(cluster, spec) != seen)  # the new kubelet has reported
    cluster.kubectl("wait", "--for=condition=Ready", f"node/{spec.name}", "--timeout=60s")
    assert cluster.node(spec)["status"]["allocatable"]["nvidia.com/gpu"] == "2"


def test_a_vm_that_cannot_boot_shows_why_and_leaves_nothing(cluster: Cluster) -> None:
    spec, paths = gpu_node(7), Paths(cluster.folder)
    settings = Settings.load(paths)
    replace(settings, bin="/no/such/folder").save(paths)

    try:
        with pytest.raises(NotRegisteredError, match="/no/such/folder"):
            cluster.run(cluster.driver.create(spec))
    finally:
        settings.save(paths)

    assert _vm_processes(cluster, spec) == []
    assert not (paths.nodes / spec.name).exists()


def test_a_deleted_vm_is_gone_and_the_others_stay(cluster: Cluster) -> None:
    gone, stays = gpu_node(1), gpu_node(0)
    for spec in (gone, stays):
        cluster.boot(spec)

    cluster.run(cluster.driver.delete(gone))
    cluster.run(cluster.driver.delete(gone))

    names = cluster.kubectl("get", "nodes", "-o", "name").split()
    assert f"node/{gone.name}" not in names
    assert f"node/{stays.name}" in names
    assert _vm_processes(cluster, gone) == []
    assert _vm_processes(cluster, stays) != []


def _kubelets(spec: NodeSpec) -> list[int]:
    return processes(
        lambda argv: "kubelet" in argv[0] and f"--hostname-override={spec.name}" in argv
    )


def _heartbeat(cluster: Cluster, spec: NodeSpec) -> str:
    conditions = cluster.node(spec)["status"]["conditions"]
    return next(str(each["lastHeartbeatTime"]) for each in conditions if each["type"] == "Ready")


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def _vm_processes(cluster: Cluster, spec: NodeSpec) -> list[int]:
    folder = str(cluster.folder / "level2" / "nodes" / spec.name)
    return sorted(processes(lambda argv: argv[-1] == folder))


def _answers(url: str) -> int:
    return httpx.get(url, timeout=5, trust_env=False).status_code


def _ask(address: str, *, times: int) -> tuple[str, ...]:
    script = (
        "import urllib.request as u\n"
        f"for _ in range({times}): print(u.urlopen('http://{address}/', timeout=5).status)"
    )
    return ("python3", "-c", script)


def _web() -> dict[str, Any]:
    """Two pods, on two nodes where there are two, under the rules of the restricted standard."""
    labels = {"app": "web"}
    container = {
        "name": "web",
        "image": "local/workspace:dev",
        "command": ["python3", "-m", "http.server", str(PORT)],
        "ports": [{"containerPort": PORT}],
        "readinessProbe": {"httpGet": {"path": "/", "port": PORT}, "periodSeconds": 1},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    pod = {
        "containers": [container],
        "nodeSelector": {"kaito.sh/workspace": "phi"},
        "terminationGracePeriodSeconds": 0,
        "tolerations": [{"key": "sku", "operator": "Exists"}],
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": labels},
            }
        ],
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": PORT}]},
    }
    return {"apiVersion": "v1", "kind": "List", "items": [deployment, service]}
