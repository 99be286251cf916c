"""What views read and write."""

from datetime import UTC, datetime, timedelta, timezone
from typing import ClassVar

import pytest
from pydantic import ValidationError

from controlkit.kube.objects import (
    ApiModel,
    Key,
    KubeObject,
    MicroTime,
    ObjectMeta,
    Resource,
    Time,
    metadata_only,
)
from controlkit_testing import MemoryApi

PODS = Resource("", "v1", "pods", "Pod")
NODES = Resource("", "v1", "nodes", "Node", namespaced=False)
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")


class Spec(ApiModel):
    node_name: str = ""
    restarts: int = 0
    started: Time | None = None
    renewed: MicroTime | None = None


class Pod(KubeObject):
    RESOURCE: ClassVar[Resource] = PODS

    spec: Spec = Spec()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (PODS.path(), "/api/v1/pods"),
        (PODS.path("ns"), "/api/v1/namespaces/ns/pods"),
        (PODS.path("ns", "p"), "/api/v1/namespaces/ns/pods/p"),
        (PODS.path("ns", "p", "eviction"), "/api/v1/namespaces/ns/pods/p/eviction"),
        (NODES.path(), "/api/v1/nodes"),
        (NODES.path("", "n", "status"), "/api/v1/nodes/n/status"),
        (LEASES.path("ns", "l"), "/apis/coordination.k8s.io/v1/namespaces/ns/leases/l"),
        (PODS.path("ns", "../secrets"), "/api/v1/namespaces/ns/pods/..%2Fsecrets"),
    ],
)
def test_paths(path: str, expected: str) -> None:
    assert path == expected


def test_a_namespaced_object_needs_its_namespace() -> None:
    with pytest.raises(ValueError, match="Pod 'p' needs a namespace"):
        PODS.path(None, "p")


def test_a_key_reads_as_kubectl_writes_it() -> None:
    assert (str(Key("ns", "p")), str(Key("", "n"))) == ("ns/p", "n")


def test_a_view_reads_its_fields_and_ignores_the_rest() -> None:
    pod = Pod.model_validate_json(
        '{"metadata": {"name": "p", "namespace": "ns", "managedFields": [{}],'
        ' "deletionTimestamp": "2030-01-01T00:00:00Z"}, "spec": {"nodeName": "n", "x": 1}}'
    )
    assert (pod.key, pod.deleting, pod.spec.node_name) == (Key("ns", "p"), True, "n")


def test_a_manifest_holds_what_was_set_and_no_default() -> None:
    pod = Pod(metadata=ObjectMeta(name="p"), spec=Spec(node_name="n"))
    assert pod.manifest() == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {"nodeName": "n"},
    }


def test_times_are_written_in_utc_as_the_api_writes_them() -> None:
    moment = datetime(2030, 1, 1, 7, 0, 0, 123456, tzinfo=timezone(timedelta(hours=7)))
    written = Spec(started=moment, renewed=moment).manifest()
    assert written == {
        "started": "2030-01-01T00:00:00Z",
        "renewed": "2030-01-01T00:00:00.123456Z",
    }
    assert Spec.model_validate(written).renewed == moment.astimezone(UTC)
    assert Spec(started=None).manifest() == {"started": None}


def test_a_view_cannot_be_changed() -> None:
    pod = Pod(metadata=ObjectMeta(name="p"))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(pod, "metadata", ObjectMeta(name="q"))  # noqa: B010  (mypy would stop the other)


def test_the_api_version_of_the_core_group_has_no_group() -> None:
    assert (PODS.api_version, LEASES.api_version) == ("v1", "coordination.k8s.io/v1")


async def test_a_view_of_metadata_misses_no_object_that_a_fuller_view_cannot_read() -> None:
    class Pod(KubeObject):
        RESOURCE: ClassVar[Resource] = PODS

        spec: Spec

    api = MemoryApi()
    for name, restarts in (("good", 1), ("bad", "many")):
        metadata = {"name": name, "namespace": "ns"}
        api.put(PODS, {"metadata": metadata, "spec": {"restarts": restarts}})
    whole = await api.client().list(Pod)
    bare = await api.client().list(metadata_only(PODS))
    assert [each.metadata.name for each in whole.items] == ["good"]
    assert [each.key for each in bare.items] == [Key("ns", "good"), Key("ns", "bad")]
    assert metadata_only(PODS) is not metadata_only(NODES)
    assert metadata_only(NODES).RESOURCE == NODES


class Colour(ApiModel):
    red: int = 0
    green: int = 0


def test_objects_that_look_alike_share_what_was_set_and_copies_do_not() -> None:
    one, other = (Colour.model_validate({"red": number}) for number in (1, 2))
    assert one.model_fields_set is other.model_fields_set
    copy = one.model_copy(update={"green": 3})
    assert (copy.manifest(), one.manifest(), other.manifest()) == (
        {"red": 1, "green": 3},
        {"red": 1},
        {"red": 2},
    )
