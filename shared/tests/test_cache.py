"""What the cache holds, and what it tells its subscribers."""

from typing import ClassVar

import pytest

from controlkit.cache import Cache
from controlkit.kube.objects import Key, KubeObject, ObjectMeta, Resource


class Pod(KubeObject):
    RESOURCE: ClassVar[Resource] = Resource("", "v1", "pods", "Pod")


Told = list[tuple[str | None, str | None]]


def pod(name: str, version: int, **labels: str) -> Pod:
    meta = ObjectMeta(name=name, namespace="ns", resource_version=str(version), labels=labels)
    return Pod(metadata=meta)


def listening(cache: Cache[Pod]) -> Told:
    told: Told = []

    def note(old: Pod | None, new: Pod | None) -> None:
        told.append((_short(old), _short(new)))

    cache.subscribe(note)
    return told


def _short(item: Pod | None) -> str | None:
    return None if item is None else f"{item.metadata.name}@{item.metadata.resource_version}"


def test_a_fresh_list_tells_what_came_changed_and_went_unseen() -> None:
    cache = Cache(Pod)
    cache.replace([pod("stays", 1), pod("changes", 2), pod("goes", 3)], "3")
    told = listening(cache)
    told.clear()
    cache.replace([pod("stays", 1), pod("changes", 5), pod("comes", 6)], "7")
    assert sorted(told, key=str) == [
        ("changes@2", "changes@5"),
        ("goes@3", None),
        (None, "comes@6"),
    ]


def test_a_late_subscriber_hears_of_all_there_is() -> None:
    cache = Cache(Pod)
    cache.replace([pod("a", 1), pod("b", 2)], "2")
    assert listening(cache) == [(None, "a@1"), (None, "b@2")]


def test_an_event_delivered_twice_is_told_once() -> None:
    cache = Cache(Pod)
    told = listening(cache)
    cache.upsert(pod("a", 1))
    cache.upsert(pod("a", 1))
    cache.remove(pod("a", 2))
    cache.remove(pod("a", 2))
    assert told == [(None, "a@1"), ("a@1", None)]


def test_the_index_follows_an_object_from_value_to_value() -> None:
    cache = Cache(Pod, indexes={"owner": lambda each: each.metadata.labels.values()})
    cache.upsert(pod("a", 1, x="one", y="one"))
    cache.upsert(pod("b", 2, x="one"))
    assert [each.metadata.name for each in cache.by_index("owner", "one")] == ["a", "b"]
    cache.upsert(pod("a", 3, x="two"))
    assert [each.metadata.name for each in cache.by_index("owner", "one")] == ["b"]
    assert [each.metadata.name for each in cache.by_index("owner", "two")] == ["a"]
    cache.replace([], "9")
    assert cache.by_index("owner", "one") == []
    assert len(cache) == 0


def test_an_index_nobody_declared_is_an_error() -> None:
    with pytest.raises(KeyError):
        Cache(Pod).by_index("owner", "one")


def test_a_reader_sees_an_object_by_its_name() -> None:
    cache = Cache(Pod)
    cache.upsert(pod("a", 1))
    assert cache.get(Key("ns", "a")) == pod("a", 1)
    assert cache.get(Key("other", "a")) is None
    assert cache.all() == [pod("a", 1)]


def test_it_is_synced_by_the_first_list_only() -> None:
    cache = Cache(Pod)
    cache.upsert(pod("a", 1))
    assert not cache.synced.is_set()
    cache.replace([], "1")
    assert cache.synced.is_set()


class TestShows:
    """Whether our own write has come back."""

    def test_not_before_the_change_arrives(self) -> None:
        cache = Cache(Pod)
        cache.replace([pod("a", 5)], "9")
        assert cache.shows(Key("ns", "a"), "9")
        assert not cache.shows(Key("ns", "a"), "10")
        cache.upsert(pod("a", 10))
        assert cache.shows(Key("ns", "a"), "10")

    def test_once_it_was_seen_deleted(self) -> None:
        cache = Cache(Pod)
        cache.replace([pod("a", 5)], "5")
        cache.remove(pod("a", 12))
        assert cache.shows(Key("ns", "a"), "11")

    def test_once_a_bookmark_passed_it(self) -> None:
        cache = Cache(Pod)
        cache.replace([], "5")
        assert not cache.shows(Key("ns", "new"), "8")
        cache.advance("8")
        assert cache.shows(Key("ns", "new"), "8")

    def test_versions_are_numbers_not_text(self) -> None:
        cache = Cache(Pod)
        cache.replace([], "99")
        assert not cache.shows(Key("ns", "a"), "100")

    def test_after_the_cluster_began_anew_from_a_lower_version(self) -> None:
        cache = Cache(Pod)
        cache.replace([], "1000")
        cache.replace([], "10")
        assert not cache.shows(Key("ns", "a"), "11")
