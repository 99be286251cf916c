"""A fine-tuning run against a real API server and Kubernetes' own Job controller.

No kubelet runs: a test says for it how a pod is doing.
"""

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from workspace_world import Bench, ControllerProcess
from workspace_world.tuning import DEFAULTS, DIGEST, OUTPUT, pod_status, tuning, words

from controlkit.kube.objects import Key
from gpuapis import labels
from gpuapis.core import ConfigMap, Deployment, Job, Node, Pod
from gpuapis.workspace import Workspace
from sandbox import tools
from sandbox.controlplane import ControlPlane
from sandbox.controlplane.addresses import free_ports, host_address
from sandbox.controlplane.commands import controller_manager
from sandbox.processes import clean_environment, spawn


@pytest.fixture(scope="module", autouse=True)
def job_controller(control_plane: ControlPlane, apply_crds: list[str]) -> Iterator[None]:
    """Kubernetes' Job controller, and what deletes a Job's pods before the Job."""
    tools.binaries(tools.PROGRAMS)
    chosen = "--controllers=job-controller,garbage-collector-controller"
    process = spawn(
        "kube-controller-manager",
        [*controller_manager(control_plane.layout, control_plane.authority), chosen],
        log=control_plane.layout.log("job-controller"),
        env=clean_environment(),
    )
    yield
    asyncio.run(process.stop(grace=0.0))


async def tune(bench: Bench, name: str, **changes: Any) -> Key:
    metadata = {"name": name, "namespace": bench.namespace}
    resource = bench.manifest(name)["resource"]
    manifest = {"metadata": metadata, "resource": resource, "tuning": tuning(**changes)}
    await bench.client.create(Workspace.RESOURCE, manifest)
    return Key(bench.namespace, name)


async def pods(bench: Bench, key: Key) -> list[Pod]:
    selector = f"{labels.WORKSPACE}={key.name}"
    listing = await bench.client.list(Pod, namespace=key.namespace, label_selector=selector)
    return listing.items


async def the_pod(bench: Bench, key: Key) -> Pod:
    """The only pod of the run that has not ended, once there is one."""

    async def look() -> Pod | None:
        live = [pod for pod in await pods(bench, key) if pod.status.phase in ("Pending", "Running")]
        return live[0] if len(live) == 1 else None

    return await bench.eventually(look, f"a pod of {key}")


async def kubelet_says(
    bench: Bench, pod: Pod, phase: str, code: int = 0, message: str = ""
) -> None:
    container = pod.metadata.labels[labels.WORKSPACE]
    status = pod_status(container, phase, code, message)
    await bench.client.merge_patch(Pod.RESOURCE, pod.key, {"status": status}, subresource="status")


async def released(bench: Bench, key: Key) -> Workspace:
    async def look() -> Workspace | None:
        found = await bench.workspace(key)
        run = found.status.tuning
        return found if run is not None and run.resource_released else None

    found = await bench.eventually(look, f"the node of {key} is given up")
    assert await bench.claims(key) == []
    return found


async def test_a_run_ends_in_a_result_without_a_node(
    controller: ControllerProcess, bench: Bench
) -> None:
    key = await tune(bench, "tune")
    pod = await the_pod(bench, key)
    (claim,) = await bench.claims(key)
    copy = await bench.read(ConfigMap, Key(key.namespace, "tune-training-config"))
    assert "load_in_4bit: true" in copy.data["training_config.yaml"]
    await kubelet_says(bench, pod, "Running")
    await bench.condition(key, "JobStarted", "True", "WorkspaceTuningJobStatusStarted")
    assert (await bench.workspace(key)).status.state == "Running"

    await kubelet_says(bench, pod, "Succeeded", 0, words())
    await bench.condition(key, "ResourceReady", "True", "ReleasedAfterTuning")
    workspace = await released(bench, key)
    assert workspace.status.state == "Succeeded"
    assert workspace.status.tuning is not None
    assert workspace.status.tuning.digest == DIGEST
    assert {c.type: c.status for c in workspace.status.conditions} == {
        "ResourceReady": "True",
        "InferenceReady": "True",
        "JobStarted": "True",
        "WorkspaceReady": "True",
        "WorkspaceSucceeded": "True",
    }
    assert not await bench.exists(Node, Key("", f"node-{claim.key.name}"))
    assert await bench.events(key, "Warning") == []

    # Neither a new process nor the loss of everything runs it again.
    await bench.client.delete(Job.RESOURCE, key)
    controller.kill()
    controller.start()
    await bench.client.merge_patch(
        Workspace.RESOURCE, key, {"metadata": {"annotations": {"example.com/touch": "1"}}}
    )
    await bench.pause(0.5)
    assert not await bench.exists(Job, key)
    assert bench.world.made == [claim.key.name]
    await bench.delete(key)
    await bench.gone(key)


@pytest.mark.parametrize(
    ("code", "reason"),
    [(2, "TuningConfigUnusable"), (3, "TuningDataUnusable"), (4, "TuningOutOfMemory")],
)
async def test_what_cannot_go_better_fails_the_run_at_once(
    controller: ControllerProcess, bench: Bench, code: int, reason: str
) -> None:
    key = await tune(bench, f"tune-{code}")
    await kubelet_says(bench, await the_pod(bench, key), "Failed", code, words(error="bad input"))
    failed = await bench.condition(key, "InferenceReady", "False", reason)
    assert "bad input" in failed.message
    workspace = await released(bench, key)
    assert workspace.status.state == "Failed"
    assert len(await pods(bench, key)) == 1
    assert [each["reason"] for each in await bench.events(key, "Warning")] == [reason]
    await bench.condition(key, "WorkspaceReady", "False", "workspaceFailed")


async def test_a_failure_that_may_go_better_is_tried_again_on_the_same_node(
    controller: ControllerProcess, bench: Bench
) -> None:
    key = await tune(bench, "tune")
    await kubelet_says(
        bench, await the_pod(bench, key), "Failed", 1, words(error="the hub is down")
    )

    async def told() -> bool:
        found = await bench.workspace(key)
        return any("1 pod has failed before" in c.message for c in found.status.conditions)

    await bench.eventually(told, "the first failure is told")
    found = await bench.condition(key, "InferenceReady", "False", "TuningPending")
    assert "the hub is down" in found.message
    assert len(await bench.claims(key)) == 1
    assert await bench.events(key, "Warning") == []


async def test_an_edit_ends_the_run_and_starts_another_on_the_same_node(
    controller: ControllerProcess, bench: Bench
) -> None:
    key = await tune(bench, "tune")
    first = await the_pod(bench, key)
    await kubelet_says(bench, first, "Running")
    await bench.condition(key, "JobStarted", "True")
    other = {"tuning": {"input": {"urls": ["https://example.com/other.parquet"]}}}
    await bench.client.merge_patch(Workspace.RESOURCE, key, other)

    async def another() -> Pod | None:
        live = [pod for pod in await pods(bench, key) if pod.metadata.uid != first.metadata.uid]
        return live[0] if len(live) == 1 else None

    second = await bench.eventually(another, "the pod of another run")
    job = await bench.read(Job, key)
    assert second.metadata.labels[labels.JOB_UID] == job.metadata.uid
    assert not await bench.exists(Pod, first.key), "two trainings would push to one place"
    assert len(bench.world.made) == 1
    run = (await bench.workspace(key)).status.tuning
    assert run is not None
    assert run.run == job.metadata.annotations[labels.SPEC_HASH]


async def test_a_mended_config_runs_again_what_has_failed(
    controller: ControllerProcess, bench: Bench
) -> None:
    mine = Key(bench.namespace, "mine")
    metadata = {"name": mine.name, "namespace": mine.namespace}
    data = {"training_config.yaml": DEFAULTS}
    await bench.client.create(ConfigMap.RESOURCE, {"metadata": metadata, "data": data})
    key = await tune(bench, "tune", config="mine")
    first = await the_pod(bench, key)
    await kubelet_says(bench, first, "Failed", 2, words(error="LoraConfig.r is 0"))
    failed = await bench.condition(key, "InferenceReady", "False", "TuningConfigUnusable")
    assert "Edit ConfigMap mine" in failed.message
    await released(bench, key)

    mended = {"data": {"training_config.yaml": f"{DEFAULTS}  LoraConfig: {{r: 8}}\n"}}
    await bench.client.merge_patch(ConfigMap.RESOURCE, mine, mended)
    await bench.client.merge_patch(  # sooner than the next look
        Workspace.RESOURCE, key, {"metadata": {"annotations": {"example.com/touch": "1"}}}
    )

    async def another() -> bool:
        live = [pod for pod in await pods(bench, key) if pod.metadata.uid != first.metadata.uid]
        return len(live) == 1

    await bench.eventually(another, "a pod of another run")
    assert (await bench.workspace(key)).status.state == "Pending"


async def test_a_run_with_a_volume_runs_again(controller: ControllerProcess, bench: Bench) -> None:
    """The next Job is judged by the API server, which lets no Job become another."""
    mine = {"persistentVolumeClaim": {"claimName": "mine"}}
    key = await tune(bench, "tune", input={"volumeSource": mine})
    first = await the_pod(bench, key)
    await kubelet_says(bench, first, "Succeeded", 0, words())
    await released(bench, key)
    other = {"input": {"volumeSource": {"persistentVolumeClaim": {"claimName": "other"}}}}
    await bench.client.merge_patch(Workspace.RESOURCE, key, {"tuning": other})

    async def another() -> bool:
        live = [pod for pod in await pods(bench, key) if pod.metadata.uid != first.metadata.uid]
        return len(live) == 1

    await bench.eventually(another, "a pod of another run")
    assert await bench.events(key, "Warning") == []


async def test_a_volume_that_the_api_server_refuses_costs_no_node(
    controller: ControllerProcess, bench: Bench
) -> None:
    key = await tune(bench, "tune", input={"volumeSource": {"configMap": {"nom": "typo"}}})
    refused = await bench.condition(key, "InferenceReady", "False", "TuningVolumeRejected")
    assert "configMap.nom" in refused.message
    assert bench.world.made == []


async def test_an_adapter_is_served_when_its_run_has_succeeded(
    controller: ControllerProcess, bench: Bench
) -> None:
    bench.world.serve = False
    adapter = {"source": {"name": "a", "workspace": "tune"}}
    inference = {"preset": {"name": "phi-3-mini-128k-instruct"}, "adapters": [adapter]}
    served = await bench.create("served", inference=inference)
    await bench.condition(served, "InferenceReady", "False", "AdapterNotReady")
    assert bench.world.made == []

    key = await tune(bench, "tune")
    await kubelet_says(bench, await the_pod(bench, key), "Succeeded", 0, words())
    await released(bench, key)

    async def deployed() -> bool:
        return await bench.exists(Deployment, served)

    await bench.eventually(deployed, "the server with the adapter")
    found = await bench.client.read(Deployment.RESOURCE.path(*served))
    (puller,) = found["spec"]["template"]["spec"]["initContainers"]
    assert f"{OUTPUT.removesuffix(':1')}@{DIGEST}" in puller["command"]
    volumes = found["spec"]["template"]["spec"]["volumes"]
    assert "push" in [each["secret"]["secretName"] for each in volumes if "secret" in each]


async def test_progress_reaches_the_status_through_the_api_server(
    controller: ControllerProcess, bench: Bench
) -> None:
    """With the controller's own rights, from a server that stands for a training."""
    key = await tune(bench, "tune")
    idle = await the_pod(bench, key)  # whose place the Job gives to the one that runs
    (port,) = free_ports(1)
    server = ThreadingHTTPServer((host_address(), port), Training)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        spec = {
            "nodeName": "n",
            "containers": [
                {"name": "tune", "image": "example.com/x", "ports": [{"containerPort": port}]}
            ],
        }
        marks = idle.metadata.labels
        metadata = {"name": "stand-in", "namespace": key.namespace, "labels": marks}
        await bench.client.create(Pod.RESOURCE, {"metadata": metadata, "spec": spec})
        ips = {"podIP": host_address(), "podIPs": [{"ip": host_address()}]}
        status = pod_status("tune", "Running") | ips
        await bench.client.merge_patch(
            Pod.RESOURCE, Key(key.namespace, "stand-in"), {"status": status}, subresource="status"
        )

        async def look() -> bool:
            run = (await bench.workspace(key)).status.tuning
            return run is not None and (run.step, run.total_steps, run.loss) == (7, 9, 0.25)

        await bench.eventually(look, "the training's own figures")
    finally:
        server.shutdown()
        server.server_close()


class Training(BaseHTTPRequestHandler):
    """Answers as a training would."""

    def do_GET(self) -> None:
        body = json.dumps({"phase": "Running", "step": 7, "total": 9, "loss": 0.25}).encode()
        self.send_response(200 if self.path == "/progress" else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass
