"""A pod that has its node and does not start: what its Events say, and how seldom they are asked."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controlkit.errors import Blocked, ControlError, Transient
from controlkit_testing import MemoryApi
from gpuapis.core import Event, Pod
from workspace_controller.workspaces.unstarted import EventReader

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
CREATING = {"name": "phi", "state": {"waiting": {"reason": "ContainerCreating"}}}


def pod(age: float, *containers: dict[str, Any], node: str = "n", **status: Any) -> Pod:
    started = (NOW - timedelta(seconds=age)).isoformat()
    return Pod.model_validate(
        {
            "metadata": {"name": "phi-0", "namespace": "team", "uid": "p-1"},
            "spec": {"nodeName": node},
            "status": {
                "startTime": started,
                "containerStatuses": containers or (CREATING,),
                **status,
            },
        }
    )


def tell(api: MemoryApi, name: str, reason: str, message: str) -> None:
    about = {"metadata": {"name": name, "namespace": "team"}, "type": "Warning"}
    api.put(Event.RESOURCE, about | {"reason": reason, "message": message})


class Asked:
    def __init__(self) -> None:
        self.api = MemoryApi()
        self.now = NOW
        self.reader = EventReader(self.api.client(), lambda: self.now)
        tell(self.api, "b", "FailedMount", "timed out")
        tell(self.api, "a", "FailedMount", 'MountVolume.SetUp failed: secret "hub"\n not found')
        tell(self.api, "c", "FailedScheduling", "0/3 nodes are available")


@pytest.fixture
def asked() -> Asked:
    return Asked()


async def test_the_latest_event_about_volumes_is_lifted_with_what_to_do(asked: Asked) -> None:
    found = await asked.reader.explain([pod(31)])
    (trouble,) = found.troubles
    assert trouble.reason == "VolumeMountError"
    assert 'MountVolume.SetUp failed: secret "hub" not found.' in trouble.message
    assert "must exist in its namespace" in trouble.message
    assert found.look_again == 30.0


@pytest.mark.parametrize(
    "seen",
    [
        pod(60, {"name": "phi", "state": {"running": {}}}),
        pod(60, {"name": "phi", "state": {"waiting": {"reason": "ImagePullBackOff"}}}),
        pod(60, node=""),
        pod(60, conditions=[{"type": "PodReadyToStartContainers", "status": "True"}]),
        pod(60, initContainerStatuses=[{"name": "puller-a", "state": {"running": {}}}]),
    ],
    ids=["running", "its-own-words", "no-node", "volumes-mounted", "fetching"],
)
async def test_a_pod_that_is_not_kept_from_starting_is_not_asked_about(
    asked: Asked, seen: Pod
) -> None:
    found = await asked.reader.explain([seen])
    assert (found.troubles, found.look_again) == ((), None)
    assert asked.api.calls == []


async def test_a_young_pod_gets_its_time(asked: Asked) -> None:
    found = await asked.reader.explain([pod(10)])
    assert (found.troubles, found.look_again) == ((), 20.0)
    assert asked.api.calls == []


async def test_events_are_asked_for_once_in_half_a_minute(asked: Asked) -> None:
    for _ in range(5):
        assert (await asked.reader.explain([pod(31)])).troubles
        asked.now += timedelta(seconds=5)
    assert len(asked.api.calls) == 1
    asked.now += timedelta(seconds=5)
    await asked.reader.explain([pod(31)])
    assert len(asked.api.calls) == 2


@pytest.mark.parametrize(
    "error",
    [Blocked("Forbidden", "may not list events"), Transient("Timeout", "had no answer")],
    ids=["forbidden", "timeout"],
)
async def test_events_that_cannot_be_read_add_nothing_and_stop_nothing(
    asked: Asked, error: ControlError
) -> None:
    asked.api.fault = lambda verb, path: error
    assert (await asked.reader.explain([pod(31)])).troubles == ()
