"""The Workspace's rules as the API server itself keeps them, with no webhook in sight."""

import subprocess
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from controlkit_testing import eventually
from sandbox.controlplane import ControlPlane
from sandbox.controlplane.admin import MERGE, AdminError
from sandbox.controlplane.crds import CHARTS, read

pytestmark = pytest.mark.control_plane

TUNING = {
    "preset": {"name": "falcon-7b"},
    "method": "lora",
    "input": {"urls": ["https://data.example.com/a"]},
    "output": {"image": "registry.example.com/a", "imagePushSecret": "push"},
}
PRESET = {"preset": {"name": "phi-3-mini-128k-instruct"}}


SELECTOR = {"matchLabels": {"apps": "phi-3"}}


def asks(**changes: Any) -> dict[str, Any]:
    """Other machines."""
    return {"resource": {"labelSelector": SELECTOR} | changes}


def selects(key: str, value: str = "x") -> dict[str, Any]:
    return asks(labelSelector={"matchLabels": {key: value}})


def preset(**changes: Any) -> dict[str, Any]:
    return {"preset": {"name": "x"} | changes}


def adapts(*adapters: dict[str, Any]) -> dict[str, Any]:
    return {"inference": PRESET | {"adapters": list(adapters)}}


def tunes(**changes: Any) -> dict[str, Any]:
    """A tuning; a change to None takes a field away."""
    given = TUNING | changes
    return {"inference": None, "tuning": {k: v for k, v in given.items() if v is not None}}


def workspace(**changes: Any) -> dict[str, Any]:
    """A valid Workspace, but for the changes; a change to None takes a field away."""
    given = {
        "apiVersion": "kaito.sh/v1alpha1",
        "kind": "Workspace",
        "metadata": {"name": "w"},
        "resource": {"labelSelector": SELECTOR},
        "inference": PRESET,
    } | changes
    return {name: value for name, value in given.items() if value is not None}


async def applied(plane: ControlPlane, namespace: str, manifest: dict[str, Any]) -> dict[str, Any]:
    """The object as the API server took it."""
    version, name = manifest["apiVersion"], manifest["metadata"]["name"]
    path = f"/apis/{version}/namespaces/{namespace}/workspaces/{name}"
    return await plane.admin.apply(path, manifest)


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
        ({"inference": PRESET | {"template": {}}}, "inference.template: Forbidden: .* both are"),
        ({"inference": {}}, "inference.preset: Required value: .* neither is given"),
        ({"tuning": TUNING}, "tuning: Forbidden: inference is given as well"),
        ({"metadata": {"name": "7b"}}, 'metadata.name: Invalid value: the name "7b" names a'),
        (asks(count=0), "greater than or equal to 1"),
        (asks(count=-1), "greater than or equal to 1"),
        ({"resource": {}}, "labelSelector: Required value"),
        (asks(labelSelector={}), "resource.labelSelector: Required value: labelSelector is empty"),
        (selects("kaito.sh/workspace"), "Forbidden: labelSelector uses kaito.sh/workspace, which"),
        (selects("karpenter.kaito.sh/x"), "labelSelector uses karpenter.kaito.sh/x, which"),
        (selects("a b"), 'matchLabels: Invalid value: key "a b" is no label key'),
        (selects("a", "-"), r'matchLabels\[a\]: Invalid value: "-": this is no label value'),
        (
            asks(labelSelector={"matchExpressions": [{"key": "a", "operator": "Exists"}]}),
            r'matchExpressions\[0\]: Invalid value: the expression on "a" uses Exists, and',
        ),
        ({"inference": preset(accessMode="secret")}, 'supported values: "public", "private"'),
        (
            {"inference": preset(accessMode="private")},
            "preset.presetOptions.image: Required value: a private preset needs the image",
        ),
        (adapts({}), r"adapters\[0\].source: Required value: say where the adapter comes from"),
        (
            adapts({"source": {"image": "a"}}),
            "source.name: Required value: an adapter needs a name",
        ),
        (adapts({"source": {"name": "A", "image": "a"}}), 'name: Invalid value: "A": an adapter'),
        (adapts({"source": {"name": "a"}}), "exactly one of image, volumeSource and workspace"),
        (
            adapts({"source": {"name": "a", "image": "a", "urls": ["b"]}}),
            "source.urls: Forbidden: urls are for training data",
        ),
        (
            adapts({"source": {"name": "a", "image": "a"}, "strength": "2"}),
            'strength: Invalid value: "2": strength is a decimal number from 0 to 1',
        ),
        (adapts(*[{"source": {"name": "a", "image": "a"}}] * 2), "two adapters share a name"),
        (
            adapts(*({"source": {"name": f"a{n}", "image": "a"}} for n in range(11))),
            "at most 10 adapters are allowed",
        ),
        (tunes(preset=None), "tuning.preset: Required value: name the model to tune"),
        (tunes(method=None), "tuning.method: Required value: say how: lora or qlora"),
        (tunes(method="full"), 'tuning.method: Invalid value: "full": method is lora or qlora'),
        (tunes(input=None), "tuning.input: Required value"),
        (tunes(input={}), "exactly one of urls, volumeSource and image"),
        (tunes(input={"urls": ["a"], "image": "b"}), "exactly one of urls, volumeSource and image"),
        (tunes(output={}), "exactly one of image and volumeSource"),
        (
            tunes(output={"image": "a"}),
            "tuning.output.imagePushSecret: Required value: pushing an image takes",
        ),
        (tunes() | asks(count=2), "resource.count: Invalid value: a fine-tuning runs on one"),
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


async def rules_hold(plane: ControlPlane, namespace: str) -> bool:
    """Whether the API server keeps the CRD's rules; a changed CRD takes a moment."""
    manifest = workspace(metadata={"name": "probe"}, **asks(labelSelector={}))
    path = f"/apis/kaito.sh/v1alpha1/namespaces/{namespace}/workspaces"
    try:
        await plane.admin.call("POST", f"{path}?dryRun=All", manifest)
    except AdminError:
        return True
    return False


def without_rules(schema: Any) -> Any:
    if isinstance(schema, dict):
        kept = ((k, v) for k, v in schema.items() if k != "x-kubernetes-validations")
        return {key: without_rules(value) for key, value in kept}
    return [without_rules(each) for each in schema] if isinstance(schema, list) else schema


@asynccontextmanager
async def a_time_before_the_rules(plane: ControlPlane, namespace: str) -> AsyncIterator[None]:
    """The same CRD without rules; they hold again from the end on."""
    [crd] = [each for each in read(CHARTS) if each["spec"]["names"]["kind"] == "Workspace"]
    path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd['metadata']['name']}"
    await plane.admin.apply(path, without_rules(crd))
    try:
        await eventually(lambda: negated(rules_hold(plane, namespace)))
        yield
    finally:
        await plane.admin.apply(path, crd)
        await eventually(lambda: rules_hold(plane, namespace))


async def negated(answer: Awaitable[bool]) -> bool:
    return not await answer


OLDER: dict[str, dict[str, Any]] = {
    "name": {"metadata": {"name": "7b.x"}},
    "no-work": {"inference": None},
    "both-kinds-of-work": {"tuning": TUNING},
    "no-label": asks(labelSelector={}),
    "reserved-label": selects("kaito.sh/workspace"),
    "malformed-labels": selects("a b", "-"),
    "expression": asks(labelSelector={"matchExpressions": [{"key": "a", "operator": "Exists"}]}),
    "private-without-image": {"inference": preset(accessMode="private")},
    "neither": {"inference": {"config": "a"}},
    "preset-and-template": {"inference": PRESET | {"template": {}}},
    "adapters": adapts({}, {"source": {"name": "A", "urls": ["b"]}, "strength": "2"}),
    "equal-adapters": adapts(*[{"source": {"name": "a", "image": "a"}}] * 11),
    "no-model-to-tune": tunes(preset=None),
    "no-method": tunes(method=None),
    "other-method": tunes(method="full"),
    "no-data": tunes(input={}),
    "no-result": tunes(output={}),
    "no-push-secret": tunes(output={"image": "a"}),
    "two-machines": tunes() | asks(count=2),
}


async def test_an_object_older_than_the_rules_stays_editable(
    control_plane: ControlPlane, apply_crds: list[str], namespace: str
) -> None:
    """Status, metadata and every part that breaks no rule can still be written."""
    admin = control_plane.admin
    names = {case: "7b.x" if case == "name" else case for case in OLDER}
    async with a_time_before_the_rules(control_plane, namespace):
        for case, changes in OLDER.items():
            old = workspace(**{"metadata": {"name": names[case]}} | changes)
            await applied(control_plane, namespace, old)

    for case, changes in OLDER.items():
        path = f"/apis/kaito.sh/v1beta1/namespaces/{namespace}/workspaces/{names[case]}"
        edits: list[tuple[str, dict[str, Any]]] = [
            (path, {"metadata": {"labels": {"team": "a"}, "finalizers": ["example.com/a"]}}),
            (path, {"metadata": {"finalizers": None}}),
            (f"{path}/status", {"status": {"state": "Pending"}}),
            (path, {"resource": {"preferredNodes": ["node"]}}),
        ]
        part = "tuning" if changes.get("tuning") else "inference"
        if case != "no-work":
            edits.append((path, {part: {"config": "other"}}))
        for where, patch in edits:
            await admin.call("PATCH", where, patch, content_type=MERGE)


async def test_a_rule_holds_for_what_an_update_of_an_older_object_adds(
    control_plane: ControlPlane, apply_crds: list[str], namespace: str
) -> None:
    async with a_time_before_the_rules(control_plane, namespace):
        await applied(control_plane, namespace, workspace(**tunes(method="full", output={})))
    path = f"/apis/kaito.sh/v1alpha1/namespaces/{namespace}/workspaces/w"
    for patch, says in (
        ({"tuning": {"output": {"image": "a"}}}, "imagePushSecret: Required value"),
        ({"tuning": {"method": "other"}}, "tuning.method cannot change"),
        ({"resource": {"count": 2}}, "a fine-tuning runs on one machine"),
    ):
        with pytest.raises(AdminError, match=says):
            await control_plane.admin.call("PATCH", path, patch, content_type=MERGE)


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
    assert "How many machines: one copy of the model on each" in told
    assert "labelSelector\t<Object> -required-" in told
