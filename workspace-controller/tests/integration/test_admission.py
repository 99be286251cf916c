"""Every kind of bad input, through the real API server and the real webhook over TLS."""

from typing import Any

import pytest
from admission_cases.builders import adapter
from workspace_world import Bench, ControllerProcess

from controlkit.errors import ControlError
from gpuapis import labels
from gpuapis.workspace import Workspace

pytestmark = pytest.mark.control_plane

SELECTOR = {"matchLabels": {"apps": "x"}}
SIZE = "Standard_NC6s_v3"


def resource(**changes: Any) -> dict[str, Any]:
    return {"instanceType": SIZE, "labelSelector": SELECTOR} | changes


def preset(name: str = "phi-3-mini-128k-instruct", **more: Any) -> dict[str, Any]:
    return {"preset": {"name": name, **more}}


TEMPLATE: dict[str, Any] = {"template": {"spec": {"containers": [{"name": "a", "image": "b"}]}}}

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "unknown preset": ({"inference": preset("phi-3-mini")}, "Did you mean phi-3-mini-"),
    "unknown size": (
        {"resource": resource(instanceType="NC6s_v3")},
        "Did you mean Standard_NC6s_v3",
    ),
    "count zero": ({"resource": resource(count=0)}, "resource.count"),
    "count negative": ({"resource": resource(count=-1)}, "resource.count"),
    "empty selector": (
        {"resource": resource(labelSelector={})},
        "resource.labelSelector: Required value: labelSelector is empty",
    ),
    "no selector": ({"resource": {"instanceType": SIZE}}, "labelSelector"),
    "preset and template": (
        {"inference": preset() | TEMPLATE},
        "exactly one of preset and template",
    ),
    "neither preset nor template": ({"inference": {}}, "exactly one of preset and template"),
    "neither inference nor tuning": (
        {"inference": None},
        "inference: Required value: say what to do",
    ),
    "reserved label": (
        {"resource": resource(labelSelector={"matchLabels": {labels.WORKSPACE: "other"}})},
        "which the controller sets itself",
    ),
    "private without image": ({"inference": preset(accessMode="private")}, "presetOptions.image"),
    "access mode": ({"inference": preset(accessMode="secret")}, "accessMode"),
    "tuning": (
        {
            "inference": None,
            "tuning": {"preset": {"name": "phi-3-mini-4k-instruct"}, "input": {}, "output": {}},
        },
        "tuning.method: Required value",
    ),
    "too many adapters": (
        {"inference": preset() | {"adapters": [adapter(f"a{n}") for n in range(11)]}},
        "at most 10",
    ),
    "too small": (
        {"resource": resource(instanceType="Standard_NV6ads_A10_v5")},
        "take 7.3 GiB of GPU memory",
    ),
    "no size for a template": (
        {"inference": TEMPLATE, "resource": {"labelSelector": SELECTOR}},
        "resource.instanceType is empty",
    ),
    "template without containers": (
        {"inference": {"template": {"spec": {"containers": []}}}},
        "inference.template.spec.containers has 0 entries; at least 1 is needed",
    ),
}


@pytest.mark.parametrize("case", BAD)
async def test_bad_input_is_refused_with_a_sentence(
    controller: ControllerProcess, bench: Bench, case: str
) -> None:
    changes, sentence = BAD[case]
    with pytest.raises(ControlError) as refused:
        await bench.create("bad", **changes)
    assert sentence in refused.value.message
    assert not await bench.exists(Workspace, bench.key("bad"))


async def test_a_name_that_cannot_name_a_service_is_refused(
    controller: ControllerProcess, bench: Bench
) -> None:
    with pytest.raises(ControlError, match="at most 63"):
        await bench.create("dots.are.no.label")


async def test_what_may_not_change_is_refused_and_the_rest_passes(
    controller: ControllerProcess, bench: Bench
) -> None:
    bench.world.stop_at = "asked"
    key = await bench.create("fixed")
    refused: tuple[tuple[dict[str, Any], str], ...] = (
        ({"resource": {"instanceType": "Standard_NC24ads_A100_v4"}}, "instanceType cannot change"),
        (
            {"resource": {"labelSelector": {"matchLabels": {"a": "b"}}}},
            "labelSelector cannot change",
        ),
        ({"inference": {"preset": {"name": "falcon-7b"}}}, "preset cannot change"),
    )
    for patch, sentence in refused:
        with pytest.raises(ControlError, match=sentence):
            await bench.client.merge_patch(Workspace.RESOURCE, key, patch)
    passing: tuple[dict[str, Any], ...] = (
        {"resource": {"count": 2}},
        {"resource": {"preferredNodes": ["a"]}},
        {"metadata": {"annotations": {"kaito.sh/enablelb": "True"}}},
    )
    for patch in passing:
        await bench.client.merge_patch(Workspace.RESOURCE, key, patch)


async def test_while_the_controller_is_down_nothing_that_exists_is_locked(
    controller_process: ControllerProcess, bench: Bench
) -> None:
    controller_process.start()
    bench.world.stop_at = "asked"
    key = await bench.create("locked")
    await bench.condition(key, "MachineReady", "Unknown")
    controller_process.stop()

    await bench.client.merge_patch(Workspace.RESOURCE, key, {"metadata": {"labels": {"team": "a"}}})
    await bench.delete(key)
    with pytest.raises(ControlError, match=r"failed calling webhook|connect"):
        await bench.create("unjudged")
    assert (await bench.workspace(key)).deleting

    controller_process.start()
    await bench.gone(key)
