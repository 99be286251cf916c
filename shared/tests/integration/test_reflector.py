"""The reflector against a real API server that is cut off, restarted, frozen and compacted."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import pytest
from prometheus_client import REGISTRY
from pydantic import Field
from structlog.testing import capture_logs

from controlkit.cache import Cache
from controlkit.kube import client as client_module
from controlkit.kube.client import KubeClient
from controlkit.kube.errors import Expired
from controlkit.kube.objects import Key, KubeObject, ObjectMeta, Resource
from controlkit.kube.reflector import Reflector
from controlkit_testing import CutProxy, eventually
from sandbox.controlplane import ControlPlane

pytestmark = pytest.mark.control_plane

CRDS = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", False
)


class ConfigMap(KubeObject):
    RESOURCE: ClassVar[Resource] = Resource("", "v1", "configmaps", "ConfigMap")

    data: dict[str, str] = Field(default_factory=dict)


MAPS = ConfigMap.RESOURCE


class Following:
    """A running reflector of one namespace's ConfigMaps."""

    def __init__(self, client: KubeClient, namespace: str, **settings: Any) -> None:
        self.cache = Cache(ConfigMap)
        self.reflector = Reflector(client, self.cache, namespace=namespace, **settings)
        self.deleted: set[str] = set()
        self.cache.subscribe(self._note)
        self._changed = asyncio.Event()

    def _note(self, old: ConfigMap | None, new: ConfigMap | None) -> None:
        if new is None and old is not None:
            self.deleted.add(old.metadata.name)
        self._changed.set()

    def names(self) -> set[str]:
        return {each.metadata.name for each in self.cache.all()}

    async def until(self, holds: Callable[[], bool], seconds: float = 20) -> None:
        async with asyncio.timeout(seconds):
            while not holds():
                self._changed.clear()
                await self._changed.wait()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.reflector.run())
            async with asyncio.timeout(30):
                await self.cache.synced.wait()
            yield
            task.cancel()


async def put(client: KubeClient, namespace: str, name: str, **data: str) -> ObjectMeta:
    manifest = {"metadata": {"name": name, "namespace": namespace}, "data": data}
    return await client.apply(MAPS, manifest, force=True)


async def test_a_watch_cut_inside_a_line_loses_nothing(
    client: KubeClient, proxied: KubeClient, proxy: CutProxy, namespace: str
) -> None:
    following = Following(proxied, namespace)
    async with following.running():
        await put(client, namespace, "a", size="small")
        await following.until(lambda: "a" in following.names())
        proxy.cut_after(100_000)
        big = await put(client, namespace, "a", size="x" * 900_000)
        await following.until(
            lambda: following.cache.all()[0].metadata.resource_version == big.resource_version
        )
        await put(client, namespace, "b")
        await following.until(lambda: "b" in following.names())
    assert proxy.connections == 2


async def test_silence_ends_a_watch_and_what_happened_meanwhile_is_seen(
    client: KubeClient, proxied: KubeClient, proxy: CutProxy, namespace: str
) -> None:
    following = Following(proxied, namespace, idle=1.0)
    await put(client, namespace, "goes")
    async with following.running():
        proxy.silence()
        await client.delete(MAPS, Key(namespace, "goes"))
        await put(client, namespace, "comes")
        await asyncio.sleep(1.5)
        assert following.names() == {"goes"}
        proxy.resume()
        await following.until(lambda: following.names() == {"comes"})
        assert following.deleted == {"goes"}


async def test_a_frozen_api_server_is_waited_for(
    client: KubeClient, control_plane: ControlPlane, namespace: str
) -> None:
    following = Following(client, namespace, idle=1.0)
    async with following.running():
        control_plane.freeze_apiserver()
        try:
            await asyncio.sleep(2.5)
        finally:
            control_plane.thaw_apiserver()
        await put(client, namespace, "a")
        await following.until(lambda: following.names() == {"a"})


async def test_a_restart_loses_nothing(
    client: KubeClient, control_plane: ControlPlane, namespace: str
) -> None:
    following = Following(client, namespace)
    async with following.running():
        await put(client, namespace, "before")
        await following.until(lambda: following.names() == {"before"})
        await control_plane.stop_apiserver(grace=0)
        await control_plane.start_apiserver()
        await put(client, namespace, "after")
        await following.until(lambda: following.names() == {"before", "after"}, seconds=40)
        assert following.deleted == set()


async def test_after_a_compaction_it_lists_again_and_no_deletion_is_lost(
    client: KubeClient,
    proxied: KubeClient,
    proxy: CutProxy,
    control_plane: ControlPlane,
    namespace: str,
) -> None:
    old = await put(client, namespace, "stays")
    await put(client, namespace, "goes")
    following = Following(proxied, namespace)
    with capture_logs() as logs:
        async with following.running():
            proxy.silence()
            await client.delete(MAPS, Key(namespace, "goes"))
            await put(client, namespace, "comes")
            await control_plane.compact_etcd()
            await control_plane.stop_apiserver(grace=0)
            await control_plane.start_apiserver()
            proxy.cut()
            proxy.resume()
            await following.until(lambda: following.names() == {"stays", "comes"}, seconds=40)
            assert following.deleted == {"goes"}
    assert "Expired" in {each.get("reason") for each in logs}
    assert [each["objects"] for each in logs if each["event"] == "listed"] == [2, 2]

    with pytest.raises(Expired):
        async for _ in client.watch(
            ConfigMap, namespace=namespace, resource_version=old.resource_version, lasts=5
        ):
            pass


async def test_five_thousand_objects_are_listed_in_pages(
    client: KubeClient, namespace: str
) -> None:
    await fill(client, namespace, 5000)
    calls = calls_answered()
    following = Following(client, namespace)
    async with following.running():
        assert calls_answered() - calls >= 10
        assert len(following.cache) == 5000
        await put(client, namespace, "one-more")
        await following.until(lambda: len(following.cache) == 5001)


def calls_answered() -> float:
    return sum(
        sample.value
        for metric in REGISTRY.collect()
        for sample in metric.samples
        if sample.name == "rest_client_requests_total" and sample.labels["code"] == "200"
    )


async def test_a_list_overtaken_by_a_compaction_starts_over(
    client: KubeClient, control_plane: ControlPlane, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(client, namespace, 30)
    monkeypatch.setattr(client_module, "PAGE", 10)
    real_page = client._page
    queries = []

    async def page(view: type[ConfigMap], path: str, query: Any, timeout: float) -> Any:
        queries.append(query)
        answer = await real_page(view, path, query, timeout)
        if len(queries) == 1:
            await put(client, namespace, "late")
            await control_plane.compact_etcd()
            await control_plane.stop_apiserver(grace=0)
            await control_plane.start_apiserver()
        return answer

    monkeypatch.setattr(client, "_page", page)
    listing = await client.list(ConfigMap, namespace=namespace)
    names = [each.metadata.name for each in listing.items]
    assert len(names) == len(set(names)) == 31, "no object missing, none twice"
    assert "continue" in queries[1]
    assert "limit" not in queries[2], "the last request takes all at once"


async def test_a_kind_is_followed_from_when_its_crd_is_served_until_it_goes(
    client: KubeClient, namespace: str
) -> None:
    class Widget(KubeObject):
        RESOURCE: ClassVar[Resource] = Resource(
            f"kit{os.getpid()}.example.com", "v1", "widgets", "Widget"
        )

    group = Widget.RESOURCE.group
    cache = Cache(Widget)
    reflector = Reflector(client, cache, optional=True, probe=0.2)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(reflector.run())
        async with asyncio.timeout(40):
            await cache.synced.wait()
            assert not cache.served
            await client.create(CRDS, definition(Widget.RESOURCE))
            await eventually(lambda: cache.served)
            widget = {"metadata": {"name": "w", "namespace": namespace}}
            await client.create(Widget.RESOURCE, widget)
            await eventually(lambda: len(cache) == 1)
            await client.delete(CRDS, Key("", f"widgets.{group}"))
            await eventually(lambda: not cache.served and len(cache) == 0)
        task.cancel()


def definition(resource: Resource) -> dict[str, Any]:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "metadata": {"name": f"{resource.plural}.{resource.group}"},
        "spec": {
            "group": resource.group,
            "scope": "Namespaced",
            "names": {"kind": resource.kind, "plural": resource.plural},
            "versions": [
                {
                    "name": resource.version,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


async def fill(client: KubeClient, namespace: str, count: int) -> None:
    async def work(numbers: range) -> None:
        for number in numbers:
            manifest = {"metadata": {"name": f"n{number}", "namespace": namespace}}
            await client.create(MAPS, manifest)

    async with asyncio.TaskGroup() as group:
        for start in range(20):
            group.create_task(work(range(start, count, 20)))
