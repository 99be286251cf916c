"""The Workspace's rules as the API server itself keeps them, with no webhook in sight."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from controlkit_testing import eventually
from sandbox.controlplane import ControlPlane
from sandbox.controlplane.admin import AdminError

pytestmark = pytest.mark.control_plane

TUNING = {
    "preset": {"name": "falcon-7b"},
    "method": "lora",
    "input": {"urls": ["https://data.example.com/a"]},
    "output": {"image": "registry.example.com/a", "imagePushSecret": "push"},
}
PRESET = {"preset": {"name": "phi-3-mini-128k-instruct"}}


def workspace(**changes: Any) -> dict[str, Any]:
    """A valid Workspace, but for the changes; a change to None takes a field away."""
    given = {
        "apiVersion": "kaito.sh/v1alpha1",
        "kind": "Workspace",
        "metadata": {"name": "w"},
        "resource": {"labelSelector": {"matchLabels": {"apps": "phi-3"}}},
        "inference": PRESET,
    } | changes
    return {name: value for name, value in given.items() if value is not None}


async def applied(plane: ControlPlane, namespace: str, manifest: dict[str, Any]) -> dict[str, Any]:
    """The object as the API server took it."""
    version = manifest["apiVersion"]
    return await plane.admin.apply(f"/apis/{version}/namespaces/{namespace}/workspaces/w", manifest)


@pytest.mark.parametrize("version", ["v1alpha1", "v1beta1"])
async def test_both_versions_take_the_same_object_and_default_alike(
    control_plane: ControlPlane, apply_crds: list[str], namespace: str, version: str
) -> None:
    taken = await applied(control_plane, namespace, workspace(apiVersion=f"kaito.sh/{version}"))
    assert taken["resource"]["count"] == 1
    assert taken["inference"]["preset"]["accessMode"] == "public"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"inference": None}, "inference: Required value: say what to do"),
        ({"inference": PRESET | {"template": {}}}, "template, and both are given"),
        ({"inference": {}}, "inference.preset: Required value: .* and neither is given"),
        ({"tuning": {"input": {}, "output": {}}}, "tuning: Forbidden: inference is given as well"),
        ({"resource": {"labelSelector": {}, "count": 0}}, "greater than or equal to 1"),
        ({"resource": {"labelSelector": {}, "count": -1}}, "greater than or equal to 1"),
        ({"resource": {}}, "labelSelector: Required value"),
        (
            {"inference": {"preset": {"name": "x", "accessMode": "secret"}}},
            'supported values: "public", "private"',
        ),
    ],
)
async def test_what_no_workspace_may_be(
    control_plane: ControlPlane,
    apply_crds: list[str],
    namespace: str,
    changes: dict[str, Any],
    says: str,
) -> None:
    with pytest.raises(AdminError, match=says):
        await applied(control_plane, namespace, workspace(**changes))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {
                "resource": {
                    "instanceType": "a",
                    "labelSelector": {"matchLabels": {"apps": "phi-3"}},
                }
            },
            "instanceType cannot change",
        ),
        (
            {"resource": {"labelSelector": {"matchLabels": {"apps": "other"}}}},
            "labelSelector cannot change",
        ),
        ({"inference": {"preset": {"name": "other"}}}, "inference.preset cannot change"),
        ({"inference": None, "tuning": TUNING}, "inference cannot be added or removed"),
    ],
)
async def test_what_may_never_change(
    control_plane: ControlPlane,
    apply_crds: list[str],
    namespace: str,
    changes: dict[str, Any],
    says: str,
) -> None:
    await applied(control_plane, namespace, workspace())
    with pytest.raises(AdminError, match=says):
        await applied(control_plane, namespace, workspace(**changes))


async def test_the_count_may_change(
    control_plane: ControlPlane, apply_crds: list[str], namespace: str
) -> None:
    await applied(control_plane, namespace, workspace())
    more = workspace()
    more["resource"] = more["resource"] | {"count": 3}
    assert (await applied(control_plane, namespace, more))["resource"]["count"] == 3


async def test_kubectl_explains_the_fields(
    control_plane: ControlPlane, apply_crds: list[str], tmp_path: Path
) -> None:
    def explained() -> str:
        return subprocess.run(
            [control_plane.bin / "kubectl", "explain", "workspace.resource"],
            env={"KUBECONFIG": str(control_plane.kubeconfig), "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        ).stdout

    # The API server publishes a new kind's schema some seconds after it serves the kind.
    await eventually(lambda: "The GPU machines to use." in explained(), seconds=20.0)
    told = explained()
    assert "How many machines; the model runs on all of them." in told
    assert "labelSelector\t<Object> -required-" in told
