"""The client's verbs on a real API server."""

import asyncio
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from pydantic import Field
from structlog.testing import capture_logs

from controlkit.errors import AlreadyExists, Blocked, NotFound, Rejected, Stale, Transient
from controlkit.kube.client import KubeClient
from controlkit.kube.errors import FieldConflict
from controlkit.kube.objects import Key, KubeObject, Resource
from controlkit_testing import CutProxy
from sandbox.controlplane import ControlPlane

pytestmark = pytest.mark.control_plane


class ConfigMap(KubeObject):
    RESOURCE: ClassVar[Resource] = Resource("", "v1", "configmaps", "ConfigMap")

    data: dict[str, str] = Field(default_factory=dict)


class Numbers(KubeObject):
    """A ConfigMap whose data must be numbers."""

    RESOURCE: ClassVar[Resource] = ConfigMap.RESOURCE

    data: dict[str, int]


MAPS = ConfigMap.RESOURCE
NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False)


def config_map(namespace: str, name: str = "a", **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace}, "data": data}


async def test_what_is_created_can_be_read(client: KubeClient, namespace: str) -> None:
    meta = await client.create(MAPS, config_map(namespace, colour="red"))
    found = await client.get(ConfigMap, Key(namespace, "a"))
    assert found is not None
    assert found.data == {"colour": "red"}
    assert found.metadata.resource_version == meta.resource_version
    assert found.metadata.creation_timestamp is not None
    assert found.metadata.creation_timestamp.tzinfo is not None


async def test_what_is_not_there_is_none(client: KubeClient, namespace: str) -> None:
    assert await client.get(ConfigMap, Key(namespace, "nothing")) is None


async def test_creating_twice_says_it_exists(client: KubeClient, namespace: str) -> None:
    await client.create(MAPS, config_map(namespace))
    with pytest.raises(AlreadyExists, match="already exists"):
        await client.create(MAPS, config_map(namespace))


async def test_creating_in_a_namespace_that_is_missing_says_so(client: KubeClient) -> None:
    with pytest.raises(NotFound, match='namespaces "missing" not found'):
        await client.create(MAPS, config_map("missing"))


async def test_an_invalid_object_is_rejected_with_the_field(
    client: KubeClient, namespace: str
) -> None:
    with pytest.raises(Rejected, match=r"Invalid.*metadata\.name"):
        await client.create(MAPS, config_map(namespace, name="Not_A_Name"))


async def test_an_object_that_does_not_fit_the_view_names_the_field(
    client: KubeClient, namespace: str
) -> None:
    await client.create(MAPS, config_map(namespace, size="large"))
    with pytest.raises(Rejected, match=r"Unreadable.*data\.size"):
        await client.get(Numbers, Key(namespace, "a"))
    await client.create(MAPS, config_map(namespace, "b", size="5"))
    listing = await client.list(Numbers, namespace=namespace)
    assert [each.metadata.name for each in listing.items] == ["b"]


async def test_a_list_is_narrowed_by_labels_fields_and_namespace(
    client: KubeClient, namespace: str
) -> None:
    for name in ("a", "b"):
        manifest = config_map(namespace, name)
        manifest["metadata"]["labels"] = {"letter": name}
        await client.create(MAPS, manifest)
    labelled = await client.list(ConfigMap, namespace=namespace, label_selector="letter=a")
    named = await client.list(ConfigMap, namespace=namespace, field_selector="metadata.name=b")
    everywhere = await client.list(ConfigMap, label_selector="letter in (a,b)")
    assert [each.metadata.name for each in labelled.items] == ["a"]
    assert [each.metadata.name for each in named.items] == ["b"]
    assert len(everywhere.items) == 2


async def test_applying_owns_fields_and_leaves_those_of_others(
    client: KubeClient, namespace: str
) -> None:
    await client.create(MAPS, config_map(namespace, theirs="1"))
    await client.apply(MAPS, config_map(namespace, ours="1"))
    await client.apply(MAPS, config_map(namespace, ours="2"))
    found = await client.get(ConfigMap, Key(namespace, "a"))
    assert found is not None
    assert found.data == {"theirs": "1", "ours": "2"}
    await client.apply(MAPS, config_map(namespace))
    found = await client.get(ConfigMap, Key(namespace, "a"))
    assert found is not None
    assert found.data == {"theirs": "1"}, "what we no longer apply goes, what others own stays"


async def test_applying_nothing_new_keeps_the_version(client: KubeClient, namespace: str) -> None:
    first = await client.apply(MAPS, config_map(namespace, a="1"))
    second = await client.apply(MAPS, config_map(namespace, a="1"))
    assert first.resource_version == second.resource_version


async def test_a_field_of_another_manager_is_taken_only_by_force(
    client: KubeClient, control_plane: ControlPlane, namespace: str
) -> None:
    other = await KubeClient.connect(
        user_agent="t", field_manager="somebody", kubeconfig=control_plane.kubeconfig
    )
    async with other:
        await other.apply(MAPS, config_map(namespace, colour="red"))
    with pytest.raises(FieldConflict, match=r"somebody.*\.data\.colour|\.data\.colour.*somebody"):
        await client.apply(MAPS, config_map(namespace, colour="blue"))
    await client.apply(MAPS, config_map(namespace, colour="blue"), force=True)
    found = await client.get(ConfigMap, Key(namespace, "a"))
    assert found is not None
    assert found.data == {"colour": "blue"}


async def test_a_guarded_patch_of_an_old_version_is_stale(
    client: KubeClient, namespace: str
) -> None:
    old = await client.create(MAPS, config_map(namespace))
    key = Key(namespace, "a")
    await client.merge_patch(MAPS, key, {"data": {"a": "1"}})
    guard = {"resourceVersion": old.resource_version}
    with pytest.raises(Stale, match="has been modified"):
        await client.merge_patch(MAPS, key, {"metadata": guard, "data": {"a": "2"}})
    with pytest.raises(NotFound):
        await client.merge_patch(MAPS, Key(namespace, "b"), {"data": {}})


async def test_deletion_says_whether_there_was_something(
    client: KubeClient, namespace: str
) -> None:
    meta = await client.create(MAPS, config_map(namespace))
    key = Key(namespace, "a")
    assert not await client.delete(MAPS, key, uid="another")
    assert await client.get(ConfigMap, key) is not None
    assert await client.delete(MAPS, key, uid=meta.uid, grace_seconds=0)
    assert not await client.delete(MAPS, key)
    assert not await client.delete(MAPS, key, uid=meta.uid)


async def test_deletion_waits_for_finalizers(client: KubeClient, namespace: str) -> None:
    manifest = config_map(namespace)
    manifest["metadata"]["finalizers"] = ["example.com/hold"]
    await client.create(MAPS, manifest)
    key = Key(namespace, "a")
    assert await client.delete(MAPS, key)
    held = await client.get(ConfigMap, key)
    assert held is not None
    assert held.deleting
    await client.merge_patch(MAPS, key, {"metadata": {"finalizers": None}})
    assert await client.get(ConfigMap, key) is None


async def test_discovery_tells_which_kinds_are_served(client: KubeClient) -> None:
    assert await client.serves(MAPS)
    assert await client.serves(Resource("apps", "v1", "deployments", "Deployment"))
    assert not await client.serves(Resource("apps", "v9", "deployments", "Deployment"))
    assert not await client.serves(Resource("", "v1", "unicorns", "Unicorn"))
    assert "gitVersion" in await client.read("/version")


async def test_a_service_account_reads_what_its_role_allows(
    control_plane: ControlPlane, namespace: str
) -> None:
    kubeconfig = await control_plane.kubeconfig_for("default", namespace)
    client = await KubeClient.connect(user_agent="t", field_manager="t", kubeconfig=kubeconfig)
    async with client:
        with pytest.raises(Blocked, match=r"Forbidden.*cannot get resource"):
            await client.get(ConfigMap, Key(namespace, "a"))


async def test_a_token_that_is_refused_is_worth_a_retry(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    kubeconfig = await control_plane.kubeconfig_for("default", namespace)
    config = yaml.safe_load(kubeconfig.read_text())
    config["users"][0]["user"] = {"token": "no.such.token"}
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(config))
    client = await KubeClient.connect(user_agent="t", field_manager="t", kubeconfig=kubeconfig)
    async with client:
        with pytest.raises(Transient, match="Unauthorized"):
            await client.read("/version/")


async def test_a_token_is_requested_by_posting(client: KubeClient, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/default/token"
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    answer = await client.post(path, body)
    assert answer["status"]["token"].count(".") == 2


async def test_a_warning_of_the_api_server_is_logged_once(
    client: KubeClient, namespace: str
) -> None:
    with capture_logs() as logs:
        for name in ("a", "b"):
            await client.create(MAPS, config_map(namespace, name) | {"colour": "red"})
    warnings = [each["warning"] for each in logs if each["event"] == "API server warns"]
    assert warnings == ['unknown field "colour"']


async def test_a_call_without_an_answer_ends_at_its_deadline(
    proxied: KubeClient, proxy: CutProxy, namespace: str
) -> None:
    proxy.silence()
    with pytest.raises(Transient, match=r"Timeout.*within 0\.5 s"):
        await proxied.get(ConfigMap, Key(namespace, "a"), timeout=0.5)


async def test_a_connection_that_breaks_is_transient_and_the_next_call_works(
    proxied: KubeClient, proxy: CutProxy, namespace: str
) -> None:
    await proxied.create(MAPS, config_map(namespace, big="x" * 500_000))
    proxy.cut_after(100_000)
    with pytest.raises(Transient, match="Unreachable"):
        await proxied.get(ConfigMap, Key(namespace, "a"))
    assert await proxied.get(ConfigMap, Key(namespace, "a")) is not None


async def test_nobody_listening_is_transient(tmp_path: Path, control_plane: ControlPlane) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    text = control_plane.kubeconfig.read_text().replace(control_plane.url, "https://127.0.0.1:1")
    kubeconfig.write_text(text)
    client = await KubeClient.connect(user_agent="t", field_manager="t", kubeconfig=kubeconfig)
    async with client:
        with pytest.raises(Transient, match=r"Unreachable: GET /version failed: .*127\.0\.0\.1:1"):
            await client.read("/version")


async def test_a_watch_begins_after_its_version_and_tells_each_change(
    client: KubeClient, namespace: str
) -> None:
    listing = await client.list(ConfigMap, namespace=namespace)
    await client.create(MAPS, config_map(namespace, a="1"))
    await client.merge_patch(MAPS, Key(namespace, "a"), {"data": {"a": "2"}})
    await client.delete(MAPS, Key(namespace, "a"))
    events = client.watch(
        ConfigMap, namespace=namespace, resource_version=listing.resource_version, lasts=1
    )
    async with asyncio.timeout(20):
        seen = [
            (event.type, event.object.data) async for event in events if event.object is not None
        ]
    assert seen == [
        ("ADDED", {"a": "1"}),
        ("MODIFIED", {"a": "2"}),
        ("DELETED", {"a": "2"}),
    ]
