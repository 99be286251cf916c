"""What pods say, put into a sentence."""

from typing import Any

import pytest

from gpuapis.core import Pod
from workspace_controller.workspaces.pods import busy_with, troubles


def container(**facts: Any) -> dict[str, Any]:
    return {"name": "model", **facts}


def waiting(reason: str, message: str = "m") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def ended(code: int, reason: str = "Error", message: str = "") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, "message": message}}


def pod(*containers: dict[str, Any], name: str = "p", node: str = "n", **status: Any) -> Pod:
    return Pod.model_validate(
        {
            "metadata": {"name": name, "namespace": "x"},
            "spec": {"nodeName": node},
            "status": {"containerStatuses": containers, **status},
        }
    )


READY: dict[str, Any] = {"conditions": [{"type": "Ready", "status": "True"}]}
UNSCHEDULABLE: dict[str, Any] = {
    "conditions": [
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/3 nodes are available",
        }
    ]
}
LOOP = waiting("CrashLoopBackOff")

TROUBLES = {
    "nothing": (pod(container(state={"running": {}})), None, ""),
    "a-pod-that-is-ready-is-fine": (pod(container(lastState=ended(1)), **READY), None, ""),
    "an-image-that-cannot-be-pulled": (
        pod(container(state=waiting("ImagePullBackOff", "no such tag"))),
        "ImagePullError",
        "ImagePullBackOff: no such tag",
    ),
    "a-container-that-cannot-start": (
        pod(container(state=waiting("CreateContainerConfigError", "secret missing"))),
        "ContainerStartError",
        "secret missing",
    ),
    "a-crash-with-its-last-words": (
        pod(container(state=LOOP, lastState=ended(1, message="boom\n"), restartCount=3)),
        "ContainerCrashLoopBackOff",
        "ended with exit code 1, 3 restarts. Last words: boom",
    ),
    "a-crash-without-last-words": (
        pod(container(state=LOOP, lastState=ended(1))),
        "ContainerCrashLoopBackOff",
        "ended with exit code 1, 0 restarts",
    ),
    "a-crash-nobody-saw": (
        pod(container(state=LOOP, restartCount=2)),
        "ContainerCrashLoopBackOff",
        "ends again and again (2 restarts)",
    ),
    "a-kill": (
        pod(container(state=LOOP, lastState=ended(137))),
        "ContainerCrashLoopBackOff",
        "no answer within the readiness timeout",
    ),
    "an-end-that-has-just-come": (
        pod(container(state=ended(3))),
        "ContainerCrashLoopBackOff",
        "exit code 3",
    ),
    "an-orderly-end": (pod(container(state=ended(0))), None, ""),
    "a-second-try-is-under-way": (
        pod(container(state={"running": {}}, lastState=ended(1))),
        None,
        "",
    ),
    "want-of-memory": (
        pod(container(state=LOOP, lastState=ended(137, "OOMKilled"))),
        "ContainerOOMKilled",
        "killed for want of memory",
    ),
    "an-eviction": (
        pod(phase="Failed", reason="Evicted", message="low on disk"),
        "PodEvicted",
        "Evicted low on disk",
    ),
    "another-failure": (pod(phase="Failed", reason="NodeLost"), "PodFailed", "NodeLost"),
    "no-place": (pod(node="", **UNSCHEDULABLE), "Unschedulable", "0/3 nodes are available"),
    "no-place-for-want-of-a-volume": (
        pod(
            node="",
            conditions=[
                UNSCHEDULABLE["conditions"][0]
                | {"message": '0/3 nodes are available: persistentvolumeclaim "data" not found.'}
            ],
        ),
        "Unschedulable",
        '"data" not found. A volume claim that the Workspace names must exist',
    ),
    "an-image-that-says-what-to-do": (
        pod(container(state=waiting("ErrImagePull", "unauthorized"))),
        "ImagePullError",
        "unauthorized. Check the image's name and tag; a private registry needs a Secret",
    ),
    "a-crash-that-says-where-to-look": (
        pod(container(state=LOOP, lastState=ended(1))),
        "ContainerCrashLoopBackOff",
        "More: kubectl logs -n x p -c model --previous",
    ),
    "an-eviction-for-disk-says-what-to-do": (
        pod(phase="Failed", reason="Evicted", message="The node was low on ephemeral-storage."),
        "PodEvicted",
        "use a larger size",
    ),
    "an-adapter-that-cannot-be-fetched": (
        pod(
            container(state=waiting("PodInitializing")),
            initContainerStatuses=[
                {
                    "name": "puller-chatty",
                    "state": LOOP,
                    "lastState": ended(1, message="401 from registry.example.com\n"),
                }
            ],
        ),
        "AdapterPullError",
        "401 from registry.example.com. Check source.image and source.imagePullSecrets of",
    ),
    "trouble-in-an-init-container": (
        pod(initContainerStatuses=[container(state=waiting("ErrImagePull"))]),
        "ImagePullError",
        "ErrImagePull",
    ),
}


@pytest.mark.parametrize("case", TROUBLES)
def test_troubles(case: str) -> None:
    seen, reason, words = TROUBLES[case]
    found = troubles([seen])
    assert [each.reason for each in found] == ([reason] if reason else [])
    assert words in "".join(each.message for each in found)


def test_the_worst_trouble_comes_first() -> None:
    found = troubles(
        [
            pod(name="a", node="", **UNSCHEDULABLE),
            pod(container(state=waiting("ErrImagePull")), name="b"),
            pod(container(state=ended(137, "OOMKilled")), name="c"),
        ]
    )
    assert [each.reason for each in found] == [
        "ContainerOOMKilled",
        "ImagePullError",
        "Unschedulable",
    ]


def test_a_pod_on_its_way_out_says_nothing() -> None:
    leaving = Pod.model_validate(
        {
            "metadata": {"name": "p", "deletionTimestamp": "2026-01-01T00:00:00Z"},
            "status": {"containerStatuses": [container(state=ended(1))]},
        }
    )
    assert troubles([leaving]) == ()
    assert busy_with([leaving]) == ""


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (pod(node=""), "pod p waits for a node"),
        (pod(), "pod p is being started"),
        (pod(container(state={"running": {}})), "pod p loads the model"),
        (
            pod(initContainerStatuses=[{"name": "puller-chatty", "state": {"running": {}}}]),
            "pod p fetches the adapter chatty",
        ),
        (pod(**READY), ""),
    ],
)
def test_what_a_pod_is_busy_with(seen: Pod, words: str) -> None:
    assert busy_with([seen]).startswith(words)
    assert bool(busy_with([seen])) == bool(words)
