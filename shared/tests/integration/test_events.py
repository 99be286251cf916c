"""Events as the API server takes them and `kubectl describe` shows them."""

import asyncio
import subprocess
from typing import ClassVar

import pytest

from controlkit.events import EventRecorder
from controlkit.kube.client import KubeClient
from controlkit.kube.objects import Key, KubeObject, Resource
from controlkit_testing import eventually
from sandbox.controlplane import ControlPlane

pytestmark = pytest.mark.control_plane


class ConfigMap(KubeObject):
    RESOURCE: ClassVar[Resource] = Resource("", "v1", "configmaps", "ConfigMap")


class Namespace(KubeObject):
    RESOURCE: ClassVar[Resource] = Resource("", "v1", "namespaces", "Namespace", namespaced=False)


async def has_event(client: KubeClient, namespace: str, uid: str) -> bool:
    found = (await client.read(f"/api/v1/namespaces/{namespace}/events"))["items"]
    return any(each["involvedObject"]["uid"] == uid for each in found)


async def test_an_event_is_seen_where_a_person_looks(
    client: KubeClient, control_plane: ControlPlane, namespace: str
) -> None:
    manifest = {"metadata": {"name": "a", "namespace": namespace}}
    await client.create(ConfigMap.RESOURCE, manifest)
    about = await client.get(ConfigMap, Key(namespace, "a"))
    wide = await client.get(Namespace, Key("", namespace))
    assert about is not None
    assert wide is not None
    recorder = EventRecorder(client, component="kit-tests")
    async with asyncio.TaskGroup() as group:
        task = group.create_task(recorder.run())
        recorder.event(about, "Warning", "QuotaExceeded", "ask for 12 more cores")
        recorder.event(wide, "Normal", "Made", "it is there")
        await eventually(lambda: has_event(client, namespace, about.metadata.uid))
        await eventually(lambda: has_event(client, "default", wide.metadata.uid))
        task.cancel()
    described = await asyncio.to_thread(describe, control_plane, namespace)
    [line] = [each for each in described.splitlines() if "QuotaExceeded" in each]
    assert line.split()[0] == "Warning"
    assert "kit-tests" in line
    assert line.endswith("ask for 12 more cores")


def describe(plane: ControlPlane, namespace: str) -> str:
    command = [str(plane.bin / "kubectl"), f"--kubeconfig={plane.kubeconfig}", "-n", namespace]
    done = subprocess.run(
        [*command, "describe", "configmap", "a"], capture_output=True, text=True, check=True
    )
    return done.stdout
