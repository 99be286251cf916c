"""The process driver, against a real API server: pods that are really served."""

import asyncio
import json
import os
import stat
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from controlkit.errors import NotFound
from controlkit.events import EventRecorder
from controlkit.kube.client import KubeClient
from controlkit.kube.objects import Key
from controlkit.kube.reflector import Reflector
from gpuapis.core import Node, Pod
from sandbox.aks.tasks import Tasks
from sandbox.controlplane import ControlPlane
from sandbox.nodes.driver import NodeSpec
from sandbox.nodes.process import ProcessDriver
from sandbox.nodes.process.logs import served

pytestmark = pytest.mark.control_plane

STAND_IN = Path(__file__).with_name("stand_in.py")
State = Callable[[dict[str, Any]], object]


@dataclass
class Cluster:
    """A namespace, a node of the process driver, and ways to look at its pods."""

    client: KubeClient
    namespace: str
    spec: NodeSpec
    folder: Path
    python: Path
    driver: ProcessDriver = field(init=False)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Cluster"]:
        """Runs the driver with its one node."""
        async with Tasks() as tasks:
            events = EventRecorder(self.client, component="kubelet")
            self.driver = ProcessDriver(
                self.client,
                tasks,
                events,
                folder=self.folder,
                python=self.python,
                ready_seconds=0.0,
                back_off=0.3,
            )
            tasks.start(events.run(), "events")
            tasks.start(Reflector(self.client, self.driver.pods).run(), "pods")
            serving = served(self.folder, self.driver.log_of, self.driver.runs)
            async with serving as self.driver.log_port:
                await self.driver.create(self.spec)
                yield self

    async def apply(self, name: str = "phi", **changes: Any) -> None:
        """Creates a pod that is bound to the node, as the scheduler would have done."""
        await self.client.create(Pod.RESOURCE, pod_manifest(self, name, **changes))

    async def read(self, name: str = "phi") -> dict[str, Any]:
        return await self.client.read(f"/api/v1/namespaces/{self.namespace}/pods/{name}")

    async def until(self, state: State, name: str = "phi") -> dict[str, Any]:
        """Waits until the pod is as `state` says; returns it."""
        pod: dict[str, Any] = {}
        try:
            async with asyncio.timeout(15):
                while True:
                    pod = await self.read(name)
                    if pod.get("status", {}).get("containerStatuses") and state(pod):
                        return pod
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"the pod never was so:\n{json.dumps(pod, indent=1)}") from None

    async def gone(self, name: str = "phi") -> None:
        async with asyncio.timeout(15):
            while True:
                try:
                    await self.read(name)
                except NotFound:
                    return
                await asyncio.sleep(0.05)

    async def delete(self, name: str = "phi", grace_seconds: int | None = None) -> None:
        key = Key(self.namespace, name)
        await self.client.delete(Pod.RESOURCE, key, grace_seconds=grace_seconds)

    def processes(self) -> list[psutil.Process]:
        """The processes of this test's pods."""
        mine = []
        for process in psutil.process_iter():
            try:
                if str(self.folder) in process.environ().get("RUNTIME_TERMINATION_LOG", ""):
                    mine.append(process)
            except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
        return mine

    async def no_processes(self) -> None:
        async with asyncio.timeout(10):
            while True:
                if not self.processes():
                    return
                await asyncio.sleep(0.05)

    async def node_is_ready(self) -> None:
        async with asyncio.timeout(10):
            while True:
                node = await self.client.get(Node, Key("", self.spec.name))
                if node is not None and node.ready:
                    return
                await asyncio.sleep(0.05)

    def file(self, pod: dict[str, Any], name: str) -> Path:
        """What a container sees as /tmp/NAME."""
        return self.folder / "pods" / str(pod["metadata"]["uid"]) / "tmp" / name


def pod_manifest(cluster: Cluster, name: str, **changes: Any) -> dict[str, Any]:
    probe = {"periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 2}
    container = {
        "name": "server",
        "image": "registry.example/models/kaito-base:0.1.0",
        "command": ["python3", "-m", "runtimes.serving"],
        "args": ["--download_dir=/workspace/weights", "--revision=main", "--port=5000"],
        "ports": [{"name": "http", "containerPort": 5000}],
        "volumeMounts": [
            {"name": "weights", "mountPath": "/workspace/weights"},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
        "startupProbe": {
            **probe,
            "httpGet": {"path": "/healthz", "port": "http"},
            "failureThreshold": 30,
        },
        "livenessProbe": {**probe, "httpGet": {"path": "/health", "port": 5000}},
        "readinessProbe": {**probe, "httpGet": {"path": "/ready", "port": "http"}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    container |= {key: value for key, value in changes.items() if key in CONTAINER_KEYS}
    spec = {
        "nodeName": cluster.spec.name,
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 10,
        "containers": [container],
        "volumes": [{"name": "weights", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}],
        "tolerations": [{"operator": "Exists"}],
    }
    spec |= {key: value for key, value in changes.items() if key not in CONTAINER_KEYS}
    return {"metadata": {"name": name, "namespace": cluster.namespace}, "spec": spec}


CONTAINER_KEYS = ("image", "command", "args", "env", "lifecycle", "volumeMounts", "envFrom")


def env(**variables: str) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in variables.items()]


def ready(pod: dict[str, Any]) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"]["conditions"])


def logged(pod: dict[str, Any]) -> str:
    return Path(pod["metadata"]["annotations"]["sandbox/log-file"]).read_text()


def server(pod: dict[str, Any]) -> dict[str, Any]:
    (status,) = pod["status"]["containerStatuses"]
    return dict(status)


async def ask(pod: dict[str, Any], path: str = "/") -> dict[str, Any]:
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"http://{pod['status']['podIP']}:5000{path}")
    return dict(answer.json())


@pytest.fixture
def cluster(
    client: KubeClient, namespace: str, make_spec: Callable[[], NodeSpec], tmp_path: Path
) -> Cluster:
    package = tmp_path / "lib" / "runtimes"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "serving.py").write_text(STAND_IN.read_text())
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={package.parent} exec {sys.executable} "$@"\n')
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    return Cluster(client, namespace, make_spec(), tmp_path / "nodes", python)


async def test_a_pod_is_served_at_an_address_of_its_own(cluster: Cluster) -> None:
    async with cluster.running():
        await cluster.apply("one", env=env(HF_HOME="/tmp/hf", HF_ENDPOINT="http://hub:1"))
        await cluster.apply("two")
        one, two = await cluster.until(ready, "one"), await cluster.until(ready, "two")
        assert one["status"]["podIP"].startswith("127.")
        assert one["status"]["podIP"] != two["status"]["podIP"]
        assert (one["status"]["phase"], server(one)["restartCount"]) == ("Running", 0)
        assert (server(one)["started"], server(one)["ready"]) == (True, True)

        said = await ask(one)
        flags = dict(word.split("=", 1) for word in said["argv"])
        assert flags["--download_dir"] == str(cluster.file(one, "x").parent.with_name("weights"))
        assert flags["--revision"] == "main"
        assert said["env"]["HF_HOME"] == str(cluster.file(one, "hf"))
        assert said["env"]["TMPDIR"] == str(cluster.file(one, "x").parent)
        assert said["env"]["HF_ENDPOINT"] == "http://hub:1"
        assert logged(one) == "serving\n"


async def test_a_deleted_pod_gets_its_grace_and_leaves_nothing(cluster: Cluster) -> None:
    async with cluster.running():
        await cluster.apply(lifecycle={"preStop": {"sleep": {"seconds": 1}}})
        pod = await cluster.until(ready)
        began = asyncio.get_running_loop().time()
        await cluster.delete()
        assert await ask(pod)  # it still answers while the preStop hook sleeps
        await cluster.gone()
        assert asyncio.get_running_loop().time() - began >= 1
        assert cluster.processes() == []
        assert logged(pod) == "serving\ndrained\n"
        assert not any(cluster.folder.glob("pods/*"))


async def test_a_stubborn_process_is_killed_when_its_grace_is_over(cluster: Cluster) -> None:
    async with cluster.running():
        await cluster.apply(env=env(STUBBORN="1"), terminationGracePeriodSeconds=1)
        await cluster.until(ready)
        await cluster.delete()
        await cluster.gone()
        assert cluster.processes() == []


async def test_a_pod_deleted_without_grace_dies_at_once(cluster: Cluster) -> None:
    async with cluster.running():
        await cluster.apply(env=env(STUBBORN="1"))
        await cluster.until(ready)
        await cluster.delete(grace_seconds=0)
        await cluster.no_processes()


async def test_a_crash_is_reported_and_repeated_at_growing_intervals(cluster: Cluster) -> None:
    async with cluster.running():
        await cluster.apply(env=env(EXIT="3"))
        waiting = {"reason": "CrashLoopBackOff"}
        pod = await cluster.until(
            lambda pod: waiting.items() <= server(pod)["state"].get("waiting", {}).items()
        )
        assert "back-off" in server(pod)["state"]["waiting"]["message"]
        last = server(pod)["lastState"]["terminated"]
        assert (last["exitCode"], last["reason"]) == (3, "Error")
        assert last["message"] == "the model does not fit"
        await cluster.until(lambda pod: server(pod)["restartCount"] >= 2)
        assert not ready(await cluster.read())


async def test_a_container_that_is_sick_is_started_again(cluster: Cluster) -> None:
    async with cluster.running():
        await cluster.apply(env=env(SICK="/tmp/sick"))
        sick = cluster.file(await cluster.until(ready), "sick")
        sick.touch()
        await cluster.until(lambda pod: server(pod)["restartCount"] == 1)
        sick.unlink()
        pod = await cluster.until(ready)
        assert server(pod)["lastState"]["terminated"]["exitCode"] == 0
        events = await cluster.client.read(f"/api/v1/namespaces/{cluster.namespace}/events")
        reasons = {event["reason"] for event in events["items"]}
        assert {"Started", "Unhealthy", "Killing"} <= reasons


async def test_readiness_follows_the_probe_both_ways(cluster: Cluster) -> None:
    async with cluster.running():
        await cluster.apply(env=env(UNREADY="/tmp/unready"))
        unready = cluster.file(await cluster.until(ready), "unready")
        unready.touch()
        pod = await cluster.until(lambda pod: not ready(pod))
        assert (server(pod)["restartCount"], pod["status"]["phase"]) == (0, "Running")
        unready.unlink()
        await cluster.until(ready)


async def test_a_container_that_never_starts_up_is_started_again(
    cluster: Cluster,
) -> None:
    async with cluster.running():
        probe = {"httpGet": {"path": "/", "port": 5999}, "periodSeconds": 1, "failureThreshold": 1}
        manifest = pod_manifest(cluster, "phi")
        manifest["spec"]["containers"][0]["startupProbe"] = probe
        await cluster.client.create(Pod.RESOURCE, manifest)
        pod = await cluster.until(lambda pod: server(pod)["restartCount"] >= 1)
        assert server(pod)["started"] is False


@pytest.mark.parametrize(
    ("changes", "reason", "named"),
    [
        ({"image": "nginx:1.29"}, "ImagePullBackOff", "nginx:1.29"),
        ({"command": ["sleep", "inf"]}, "CreateContainerConfigError", "python3 -m runtimes."),
        ({"volumes": [{"name": "weights", "hostPath": {"path": "/"}}], "volumeMounts": [
            {"name": "weights", "mountPath": "/x"}]}, "CreateContainerConfigError", "emptyDir"),
        ({"env": [{"name": "T", "valueFrom": {"secretKeyRef": {"name": "no", "key": "k"}}}]},
         "CreateContainerConfigError", 'secret "no"'),
    ],
    ids=["image", "command", "volume", "secret"],
)  # fmt: skip
async def test_what_it_cannot_run_waits_with_an_explanation(
    cluster: Cluster, changes: dict[str, Any], reason: str, named: str
) -> None:
    async with cluster.running():
        await cluster.apply(**changes)
        pod = await cluster.until(
            lambda pod: server(pod)["state"].get("waiting", {}).get("reason") == reason
        )
        assert named in server(pod)["state"]["waiting"]["message"]
        assert pod["status"]["phase"] == "Pending"
        await cluster.delete()
        await cluster.gone()


async def test_a_secret_reaches_the_process(cluster: Cluster) -> None:
    secret = {"metadata": {"name": "hub", "namespace": cluster.namespace}, "stringData": {"k": "v"}}
    await cluster.client.post(f"/api/v1/namespaces/{cluster.namespace}/secrets", secret)
    async with cluster.running():
        reference = {"name": "T", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "k"}}}
        await cluster.apply(env=[reference])
        assert (await ask(await cluster.until(ready)))["env"]["T"] == "v"


async def test_a_job_ends_with_its_pod(cluster: Cluster) -> None:
    async with cluster.running():
        await cluster.apply(env=env(EXIT="4"), restartPolicy="Never")
        pod = await cluster.until(lambda pod: pod["status"]["phase"] == "Failed")
        assert server(pod)["state"]["terminated"]["exitCode"] == 4
        await cluster.delete()
        await cluster.gone()


async def test_the_end_of_a_vm_is_the_end_of_its_processes(cluster: Cluster) -> None:
    async with cluster.running():
        await cluster.apply(env=env(STUBBORN="1"))
        await cluster.until(ready)
        await cluster.driver.delete(cluster.spec)
        assert cluster.processes() == []
        assert await cluster.client.get(Node, Key("", cluster.spec.name)) is None


async def test_a_new_driver_starts_the_pods_of_the_last_one_again(cluster: Cluster) -> None:
    async with cluster.running():
        await cluster.apply()
        first = await cluster.until(ready)
    assert cluster.processes() == []
    async with cluster.running():
        again = await cluster.until(lambda pod: ready(pod) and server(pod)["restartCount"] == 1)
        assert again["status"]["podIP"] == first["status"]["podIP"]
        assert len(cluster.processes()) == 1


async def test_the_node_is_alive_while_the_driver_is(cluster: Cluster) -> None:
    lease = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/"
    async with cluster.running():
        await cluster.node_is_ready()
        renewed = (await cluster.client.read(lease + cluster.spec.name))["spec"]["renewTime"]
        assert renewed.endswith("Z")
        addresses = (await cluster.client.read(f"/api/v1/nodes/{cluster.spec.name}"))["status"]
        assert addresses["addresses"][0]["address"].startswith("127.")


async def test_kubectl_shows_the_logs_of_a_pod(
    cluster: Cluster, control_plane: ControlPlane
) -> None:
    kubectl = [
        str(control_plane.bin / "kubectl"),
        f"--kubeconfig={control_plane.kubeconfig}",
        f"--namespace={cluster.namespace}",
        "logs",
    ]

    async def logs(*words: str) -> str:
        child = await asyncio.create_subprocess_exec(
            *kubectl, *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        return (await child.communicate())[0].decode()

    async with cluster.running():
        await cluster.apply(env=env(SICK="/tmp/sick"))
        pod = await cluster.until(ready)
        assert await logs("phi") == "serving\n"
        assert await logs("phi", "--tail=0") == ""
        async with asyncio.TaskGroup() as group:
            followed = group.create_task(logs("phi", "--follow"))
            await asyncio.sleep(0.5)
            cluster.file(pod, "sick").touch()
            await cluster.until(lambda pod: server(pod)["restartCount"] == 1)
            await cluster.until(lambda pod: "running" in server(pod)["state"])
            assert await logs("phi", "--previous", "--tail=1") == "drained\n"
            await cluster.delete()
            await cluster.gone()
        assert followed.result() == "serving\ndrained\n"


async def test_a_killed_driver_takes_its_processes_along(
    cluster: Cluster, control_plane: ControlPlane, tmp_path: Path
) -> None:
    script = tmp_path / "drive.py"
    script.write_text(DRIVE)
    words = (str(script), str(control_plane.kubeconfig), str(cluster.folder), str(cluster.python))
    child = await asyncio.create_subprocess_exec(
        sys.executable, *words, cluster.spec.name, env={**os.environ, "PYTHONPATH": ""}
    )
    await cluster.apply(env=env(STUBBORN="1"))
    await cluster.until(ready)
    child.kill()
    await child.wait()
    await cluster.no_processes()


DRIVE = """
import asyncio, sys
from pathlib import Path
from sandbox.nodes.driver import NodeSpec
from sandbox.nodes.load import DriverOptions, loaded

async def main():
    kubeconfig, folder, python, name = sys.argv[1:]
    options = DriverOptions(Path(kubeconfig), Path(folder), Path("."), 0.0, Path(python))
    spec = NodeSpec(name, "ws1", "azure:///x", "Standard_NC6s_v3", 1, {}, (), None, 0, "r", False)
    async with loaded("process", options) as driver:
        await driver.create(spec)
        await asyncio.sleep(60)

asyncio.run(main())
"""
