"""The API server in memory does as the real one does, where it claims to: each test runs on both."""

from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest
from pydantic import Field

from controlkit.errors import AlreadyExists, NotFound, Stale
from controlkit.kube.client import KubeClient
from controlkit.kube.objects import ApiModel, Key, KubeObject, Resource
from controlkit_testing import MemoryApi
from sandbox.controlplane import ControlPlane

pytestmark = pytest.mark.control_plane


class ConfigMap(KubeObject):
    RESOURCE: ClassVar[Resource] = Resource("", "v1", "configmaps", "ConfigMap")

    data: dict[str, str] = Field(default_factory=dict)


class DeploymentStatus(ApiModel):
    replicas: int = 0


class Deployment(KubeObject):
    RESOURCE: ClassVar[Resource] = Resource("apps", "v1", "deployments", "Deployment")

    status: DeploymentStatus = DeploymentStatus()


MAPS = ConfigMap.RESOURCE


@pytest.fixture(params=["in-memory", "real"])
async def client(
    request: pytest.FixtureRequest, control_plane: ControlPlane
) -> AsyncIterator[KubeClient]:
    if request.param == "in-memory":
        yield MemoryApi().client()
        return
    real = await KubeClient.connect(
        user_agent="t", field_manager="test", kubeconfig=control_plane.kubeconfig
    )
    async with real:
        yield real


def config_map(namespace: str, finalizers: tuple[str, ...] = (), **data: str) -> dict[str, Any]:
    metadata = {"name": "a", "namespace": namespace, "finalizers": list(finalizers)}
    return {"metadata": metadata, "data": data}


async def test_creating_reading_and_creating_again(client: KubeClient, namespace: str) -> None:
    assert await client.get(ConfigMap, Key(namespace, "a")) is None
    meta = await client.create(MAPS, config_map(namespace, a="1"))
    found = await client.get(ConfigMap, Key(namespace, "a"))
    assert found is not None
    assert (found.data, found.metadata.uid) == ({"a": "1"}, meta.uid)
    with pytest.raises(AlreadyExists):
        await client.create(MAPS, config_map(namespace))


async def test_a_guarded_patch(client: KubeClient, namespace: str) -> None:
    key = Key(namespace, "a")
    with pytest.raises(NotFound):
        await client.merge_patch(MAPS, key, {"data": {"a": "1"}})
    old = await client.create(MAPS, config_map(namespace, a="1", b="1"))
    guard = {"resourceVersion": old.resource_version}
    new = await client.merge_patch(
        MAPS, key, {"metadata": guard, "data": {"a": "2", "b": None, "c": "3"}}
    )
    assert int(new.resource_version) > int(old.resource_version)
    with pytest.raises(Stale):
        await client.merge_patch(MAPS, key, {"metadata": guard, "data": {"a": "4"}})
    found = await client.get(ConfigMap, key)
    assert found is not None
    assert found.data == {"a": "2", "c": "3"}


async def test_a_write_that_changes_nothing_keeps_the_version(
    client: KubeClient, namespace: str
) -> None:
    first = await client.apply(MAPS, config_map(namespace, a="1"))
    second = await client.apply(MAPS, config_map(namespace, a="1"))
    third = await client.merge_patch(MAPS, Key(namespace, "a"), {"data": {"a": "1"}})
    assert first.resource_version == second.resource_version == third.resource_version


async def test_deletion_with_and_without_finalizers(client: KubeClient, namespace: str) -> None:
    key = Key(namespace, "a")
    assert not await client.delete(MAPS, key)
    meta = await client.create(MAPS, config_map(namespace, ("example.com/hold",)))
    assert not await client.delete(MAPS, key, uid="another")
    assert await client.delete(MAPS, key, uid=meta.uid)
    held = await client.get(ConfigMap, key)
    assert held is not None
    assert held.deleting
    await client.merge_patch(MAPS, key, {"metadata": {"finalizers": []}})
    assert await client.get(ConfigMap, key) is None
    await client.create(MAPS, config_map(namespace))
    assert await client.delete(MAPS, key)
    assert await client.get(ConfigMap, key) is None


async def test_status_and_spec_are_written_apart(client: KubeClient, namespace: str) -> None:
    kind, key = Deployment.RESOURCE, Key(namespace, "d")
    labels = {"app": "d"}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    manifest: dict[str, Any] = {
        "metadata": {"name": "d", "namespace": namespace},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template},
    }
    first = await client.apply(kind, manifest)
    status = await client.merge_patch(
        kind, key, {"spec": {"replicas": 9}, "status": {"replicas": 3}}, subresource="status"
    )
    assert (first.generation, status.generation) == (1, 1)
    edited = await client.merge_patch(
        kind, key, {"spec": {"replicas": 2}, "status": {"replicas": 7}}
    )
    assert edited.generation == 2
    found = await client.get(Deployment, key)
    assert found is not None
    assert found.status.replicas == 3


async def test_a_watch_tells_every_change_after_its_version(
    client: KubeClient, namespace: str
) -> None:
    key = Key(namespace, "a")
    before = await client.list(ConfigMap, namespace=namespace)
    await client.create(MAPS, config_map(namespace, a="1"))
    middle = await client.list(ConfigMap, namespace=namespace)
    await client.merge_patch(MAPS, key, {"data": {"a": "2"}})
    await client.delete(MAPS, key)
    for version, expected in (
        (before.resource_version, ["ADDED", "MODIFIED", "DELETED"]),
        (middle.resource_version, ["MODIFIED", "DELETED"]),
    ):
        events = client.watch(ConfigMap, namespace=namespace, resource_version=version, lasts=1)
        versions, kinds = [], []
        async for event in events:
            if event.type != "BOOKMARK":
                kinds.append(event.type)
                versions.append(int(event.resource_version))
        assert kinds == expected
        assert versions == sorted(set(versions))
