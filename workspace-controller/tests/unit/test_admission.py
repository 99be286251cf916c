"""The admission rules and the verdicts that follow from them."""

from datetime import date
from typing import Any

import pytest

from controlkit.admission import AdmissionRequest
from gpuapis import labels
from gpuapis.workspace import Workspace
from workspace_controller.presets.catalog import Catalog, catalog
from workspace_controller.skus.table import sku_table
from workspace_controller.webhooks.review import Judge, review
from workspace_controller.workspaces.target import Knowledge

TODAY = date(2026, 11, 24)
KNOWLEDGE = Knowledge(catalog(), sku_table("azure"))
PHI = {"preset": {"name": "phi-3-mini-128k-instruct"}}
FALCON = {"preset": {"name": "falcon-7b"}}
TEMPLATE = {"template": {"spec": {"containers": [{"name": "a", "image": "b"}]}}}
TUNING = {"preset": {"name": "falcon-7b"}, "input": {}, "output": {}}
SIZE = "Standard_NC24ads_A100_v4"
LLAMA = "llama-3.3-70b-instruct"
TOKEN = {"modelAccessSecret": "hub-token"}


def manifest(
    *,
    name: str = "w",
    notes: dict[str, str] | None = None,
    selector: dict[str, Any] | None = None,
    size: str | None = SIZE,
    inference: dict[str, Any] | None = PHI,
    **more: Any,
) -> dict[str, Any]:
    resource: dict[str, Any] = {"labelSelector": selector or {"matchLabels": {"apps": "x"}}}
    if size is not None:
        resource["instanceType"] = size
    found = {
        "metadata": {"name": name, "namespace": "n", "annotations": notes or {}},
        "resource": resource | more.pop("resource", {}),
        **more,
    }
    return found if inference is None else found | {"inference": inference}


def workspace(**facts: Any) -> Workspace:
    return Workspace.model_validate(manifest(**facts))


def preset(name: str, options: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"preset": {"name": name, "presetOptions": options or {}}}


def adapters(*sources: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"adapters": [{"source": source, **more} for source in sources]}


def spec(**changes: Any) -> dict[str, Any]:
    """A Workspace with a template whose pod spec is changed."""
    sound = {"containers": [{"name": "a", "image": "b"}]}
    return {"inference": {"template": {"spec": sound | changes}}}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a-name-with-dots": ({"name": "a.b"}, "metadata.name 'a.b'"),
    "a-name-that-no-service-can-have": ({"name": "7b-chat"}, "beginning with a letter"),
    "a-name-that-ends-badly": ({"name": "chat-"}, "ending with a letter or digit"),
    "a-name-too-long": ({"name": "a" * 64}, "at most 63 characters"),
    "an-image-family": (
        {"notes": {labels.NODE_IMAGE_FAMILY: "windows"}},
        "'windows'; allowed: azurelinux, ubuntu",
    ),
    "a-reserved-key": (
        {"selector": {"matchLabels": {labels.WORKSPACE: "x"}}},
        "uses kaito.sh/workspace, which the controller sets itself",
    ),
    "a-reserved-key-in-an-expression": (
        {
            "selector": {
                "matchExpressions": [
                    {"key": "karpenter.kaito.sh/x", "operator": "In", "values": ["1"]}
                ]
            }
        },
        "karpenter.kaito.sh/x",
    ),
    "a-label-that-a-kubelet-sets": (
        {"selector": {"matchLabels": {"kubernetes.io/hostname": "x"}}},
        "uses kubernetes.io/hostname, which a new node cannot be given",
    ),
    "the-instance-type-as-a-label": (
        {"selector": {"matchLabels": {"node.kubernetes.io/instance-type": "Standard_NC6s_v3"}}},
        "uses node.kubernetes.io/instance-type, which a new node cannot be given",
    ),
    "a-label-of-the-provisioner": (
        {"selector": {"matchLabels": {"karpenter.sh/provisioner-name": "foo"}}},
        "uses karpenter.sh/provisioner-name, which a new node cannot be given",
    ),
    "a-label-of-aks": (
        {"selector": {"matchLabels": {"agentpool": "x", "kubernetes.azure.com/x": "y"}}},
        "uses agentpool, kubernetes.azure.com/x, which a new node cannot be given",
    ),
    "a-malformed-key": (
        {"selector": {"matchLabels": {"a b": "x"}}},
        "key 'a b' is no label key",
    ),
    "a-malformed-value": (
        {"selector": {"matchLabels": {"apps": "x y"}}},
        "value 'x y' of 'apps' is no label value",
    ),
    "an-empty-selector": ({"selector": {"matchLabels": {}}}, "resource.labelSelector is empty"),
    "both-kinds-of-work": ({"tuning": TUNING}, "inference and tuning are both given"),
    "tuning": ({"inference": None, "tuning": TUNING}, "tuning.method is None"),
    "no-work": ({"inference": None}, "inference is missing"),
    "preset-and-template": ({"inference": PHI | TEMPLATE}, "both of them is given"),
    "neither": ({"inference": {}}, "neither of them is given"),
    "an-unknown-preset": ({"inference": {"preset": {"name": "falcon"}}}, "Did you mean falcon-7b"),
    "a-private-preset-without-image": (
        {"inference": {"preset": {"name": "falcon-7b", "accessMode": "private"}}},
        "presetOptions.image is empty",
    ),
    "a-config-for-a-template": (
        {"inference": TEMPLATE | {"config": "c"}},
        "inference.config is for presets",
    ),
    "adapters-for-a-template": (
        {"inference": TEMPLATE | adapters({"name": "a", "image": "b"})},
        "inference.adapters is for presets",
    ),
    "an-adapter-without-a-source": (
        {"inference": PHI | {"adapters": [{}]}},
        "inference.adapters[0].source is missing",
    ),
    "an-adapter-without-a-name": (
        {"inference": PHI | adapters({"image": "b"})},
        "inference.adapters[0].source.name '' names a folder and a container",
    ),
    "an-adapter-with-capitals": (
        {"inference": PHI | adapters({"name": "Chatty", "image": "b"})},
        "'Chatty' names a folder and a container",
    ),
    "an-adapter-with-nothing-in-it": (
        {"inference": PHI | adapters({"name": "a", "image": "b"}, {"name": "c"})},
        "source takes exactly one of image, volumeSource, workspace; given: none of them",
    ),
    "an-adapter-from-two-places": (
        {"inference": PHI | adapters({"name": "a", "image": "b", "volumeSource": {}})},
        "source takes exactly one of image, volumeSource, workspace; given: image, volumeSource",
    ),
    "an-adapter-from-a-url": (
        {"inference": PHI | adapters({"name": "a", "urls": ["https://example.com/a"]})},
        "inference.adapters[0].source.urls is for training data",
    ),
    "two-adapters-of-one-name": (
        {"inference": PHI | adapters(*[{"name": "a", "image": "b"}] * 2)},
        "inference.adapters[1].source.name 'a' is given twice",
    ),
    **{
        f"a-strength-of-{strength}": (
            {"inference": PHI | adapters({"name": "a", "image": "b"}, strength=strength)},
            f"inference.adapters[0].strength '{strength}' is not a number from 0 to 1",
        )
        for strength in ("1.5", "-0.1", "half", "nan", "1e-1")
    },
    "an-upgrade-to-no-tag": (
        {"notes": {labels.UPGRADE_TO_VERSION: "0.2.0 please"}},
        "annotation kaito.sh/upgrade-to-version '0.2.0 please' is no image tag",
    ),
    "eleven-adapters": (
        {"inference": PHI | adapters(*({"name": f"a{n}", "image": "b"} for n in range(11)))},
        "has 11 entries; at most 10",
    ),
    "a-size-that-is-none": ({"size": "A100"}, "resource.instanceType 'A100' is not a GPU size"),
    "a-size-too-small": (
        {"size": "Standard_NV6ads_A10_v5"},
        (
            "has room for 2.4 GiB beside the engine and a context of 2048 tokens. Sizes that fit: "
            "Standard_NC4as_T4_v3"
        ),
    ),
    "too-few-nodes-for-one-copy": (
        {"size": SIZE, "inference": preset(LLAMA, TOKEN), "resource": {"count": 2}},
        (
            "it fits when spread over 3 of them: set resource.count. Sizes that fit: "
            "Standard_NC40ads_H100_v5"
        ),
    ),
    "a-size-that-is-too-small-for-that-engine": (
        {
            "size": "Standard_NC4as_T4_v3",
            "inference": preset("mistral-7b"),
            "notes": {labels.RUNTIME: "vllm"},
        },
        "it fits with the annotation kaito.sh/runtime: transformers",
    ),
    "a-gated-preset-without-token": (
        {"size": None, "inference": preset(LLAMA)},
        "modelAccessSecret is empty, and the hub gives out meta-llama/Llama-3.3-70B-Instruct",
    ),
    "a-private-preset-that-is-called-public": (
        {"size": None, "inference": preset("llama-2-7b")},
        "accessMode is 'public', and llama-2-7b may not be downloaded by everybody",
    ),
    "a-size-without-nvidia": ({"size": "Standard_NG32ads_V620_v1"}, "needs NVIDIA"),
    "a-template-without-size": ({"inference": TEMPLATE, "size": None}, "instanceType is empty"),
    "a-template-without-an-image": (
        spec(containers=[{"name": "a"}]),
        "inference.template.spec.containers.0.image",
    ),
    "a-template-with-an-empty-image": (
        spec(containers=[{"name": "a", "image": ""}]),
        "inference.template.spec.containers.0.image",
    ),
    "a-template-with-a-bad-name": (
        spec(containers=[{"name": "A_b", "image": "b"}]),
        "inference.template.spec.containers.0.name",
    ),
    "a-template-that-never-restarts": (
        spec(restartPolicy="Never"),
        "inference.template.spec.restartPolicy: Input should be 'Always'",
    ),
    "a-template-that-ends-by-itself": (
        spec(activeDeadlineSeconds=60),
        "inference.template.spec.activeDeadlineSeconds",
    ),
    "a-template-with-a-bad-init-container": (
        spec(initContainers=[{"name": "i"}]),
        "inference.template.spec.initContainers.0.image",
    ),
    "a-template-with-a-name-twice": (
        spec(initContainers=[{"name": "a", "image": "b"}]),
        "the name 'a' is given twice",
    ),
    "a-template-that-mounts-nothing": (
        spec(
            containers=[{"name": "a", "image": "b", "volumeMounts": [{"name": "data"}]}],
            volumes=[{"name": "date"}],
        ),
        "container a mounts the volume 'data'",
    ),
    "a-template-without-containers": (
        {"inference": {"template": {"spec": {}}}},
        "inference.template.spec.containers",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_on_creation(case: str) -> None:
    facts, words = REFUSED[case]
    verdict = review(None, workspace(**facts), KNOWLEDGE, TODAY)
    assert not verdict.allowed
    assert words in verdict.message


ALLOWED: dict[str, dict[str, Any]] = {
    "a-preset": {},
    "a-preset-without-size": {"size": None},
    "a-template": {"inference": TEMPLATE},
    "a-template-with-a-volume": spec(
        containers=[
            {"name": "a", "image": "b", "volumeMounts": [{"name": "d", "mountPath": "/d"}]}
        ],
        volumes=[{"name": "d", "emptyDir": {}}],
        restartPolicy="Always",
    ),
    "a-private-preset": {
        "inference": {
            "preset": {
                "name": "falcon-7b",
                "accessMode": "private",
                "presetOptions": {"image": "example.com/x:1"},
            }
        }
    },
    "a-gated-preset-with-a-token": {"size": None, "inference": preset(LLAMA, TOKEN)},
    "a-gated-preset-in-an-image-of-ones-own": {
        "size": None,
        "inference": {
            "preset": {
                "name": LLAMA,
                "accessMode": "private",
                "presetOptions": {"image": "example.com/llama:1"},
            }
        },
    },
    "one-copy-over-as-many-nodes-as-it-takes": {
        "inference": preset(LLAMA, TOKEN),
        "resource": {"count": 3},
    },
    "a-name-of-later-releases": {"inference": preset("microsoft/Phi-4-mini-instruct")},
    "an-expression": {
        "selector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["1"]}]}
    },
    "an-image-family": {"notes": {labels.NODE_IMAGE_FAMILY: " Ubuntu"}},
    "a-load-balancer": {"notes": {labels.ENABLE_LOAD_BALANCER: "True"}},
    "the-only-runtime": {"notes": {labels.RUNTIME: "transformers"}},
}


@pytest.mark.parametrize("case", ALLOWED)
def test_allowed_on_creation_without_a_word(case: str) -> None:
    verdict = review(None, workspace(**ALLOWED[case]), KNOWLEDGE, TODAY)
    assert (verdict.allowed, verdict.message, verdict.warnings) == (True, "", ())


WARNED: dict[str, tuple[dict[str, Any], str]] = {
    "a-retired-size": (
        {"size": "Standard_NC6s_v3"},
        (
            "was retired on 2025-09-30: the cloud may refuse to make new ones; Standard_NC4as_T4_v3 "
            "(1 x T4, 16 GiB each) is the cheapest in service that offers as much"
        ),
    ),
    "a-gpu-that-is-too-old": (
        {"size": "Standard_NC6s_v3"},
        "the V100 of Standard_NC6s_v3 has compute capability 7.0, and the runtime's CUDA 13",
    ),
    "an-alias": ({"size": "Standard_ND96asr_A100_v4"}, "say Standard_ND96asr_v4"),
    "an-arm-machine": (
        {"size": "Standard_ND128isr_NDR_GB200_v6"},
        "has an Arm CPU, and the runtime image is built for x86-64",
    ),
    "a-size-that-nobody-measured": (
        {"size": "standard_nc8ads_a10_v4"},
        "resource.instanceType Standard_NC8ads_A10_v4 is known, but no source says",
    ),
    "an-emulated-format": (
        {"size": "Standard_NC4as_T4_v3", "inference": FALCON},
        "no native bfloat16",
    ),
    "a-size-that-we-do-not-know": (
        {"size": "Standard_NC6sv3"},
        "is not in our table, so its GPUs are not checked; did you mean Standard_NC6s_v3?",
    ),
    "a-size-like-no-other": ({"size": "Standard_N"}, "is not in our table"),
    "a-bypassed-check": (
        {"size": "Standard_NV6ads_A10_v5", "notes": {labels.BYPASS_RESOURCE_CHECKS: "true"}},
        "take 7.3 GiB of GPU memory",
    ),
    "a-load-balancer-misspelt": ({"notes": {labels.ENABLE_LOAD_BALANCER: "true"}}, "only True"),
    "another-runtime": ({"notes": {labels.RUNTIME: "onnx"}}, "'onnx' and has no effect"),
    "an-image-for-a-public-preset": (
        {
            "inference": {
                "preset": {"name": "falcon-7b", "presetOptions": {"image": "example.com/x:1"}}
            }
        },
        "although accessMode is public",
    ),
}


@pytest.mark.parametrize("case", WARNED)
def test_allowed_with_a_warning(case: str) -> None:
    facts, words = WARNED[case]
    verdict = review(None, workspace(**facts), KNOWLEDGE, TODAY)
    assert verdict.allowed, verdict.message
    assert words in "; ".join(verdict.warnings)


def test_a_size_to_be_retired_is_announced() -> None:
    early = date(2025, 1, 1)
    verdict = review(None, workspace(size="Standard_NC6s_v3"), KNOWLEDGE, early)
    assert "will be retired on 2025-09-30" in "; ".join(verdict.warnings)


UPDATES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "another-count": ({}, {"resource": {"count": 3}}, ""),
    "other-preferred-nodes": ({}, {"resource": {"preferredNodes": ["a"]}}, ""),
    "another-size": ({}, {"size": "Standard_NC6s_v3"}, "instanceType cannot change"),
    "another-selector": (
        {},
        {"selector": {"matchLabels": {"b": "c"}}},
        "labelSelector cannot change",
    ),
    "another-preset": ({}, {"inference": FALCON}, "inference.preset cannot change"),
    "a-template-for-a-preset": (
        {},
        {"inference": TEMPLATE},
        "inference.template cannot be added or removed",
    ),
    "another-template": (
        {"inference": TEMPLATE},
        {"inference": {"template": {"spec": {"containers": [{"name": "a", "image": "c"}]}}}},
        "",
    ),
    "a-broken-template": (
        {"inference": TEMPLATE},
        {"inference": {"template": {"spec": {"containers": []}}}},
        "inference.template.spec.containers",
    ),
    "tuning-for-inference": (
        {},
        {"inference": None, "tuning": TUNING},
        "inference cannot be added or removed",
    ),
}


@pytest.mark.parametrize("case", UPDATES)
def test_updates(case: str) -> None:
    before, after, words = UPDATES[case]
    verdict = review(workspace(**before), workspace(**after), KNOWLEDGE, TODAY)
    assert verdict.allowed == (not words), verdict.message
    assert words in verdict.message


def test_what_was_wrong_before_does_not_lock_an_object() -> None:
    """A preset leaves the catalogue: the Workspaces that use it can still be scaled."""
    empty = Knowledge(Catalog(()), sku_table("azure"))
    verdict = review(workspace(), workspace(resource={"count": 2}), empty, TODAY)
    assert verdict.allowed, verdict.message


def test_metadata_changes_pass_whatever_they_are() -> None:
    assert review(workspace(), workspace(notes={labels.RUNTIME: "x"}), KNOWLEDGE, TODAY).allowed


def test_what_is_being_deleted_passes() -> None:
    gone = workspace(size="A100").model_copy(
        update={
            "metadata": workspace().metadata.model_copy(
                update={"deletion_timestamp": "2026-01-01T00:00:00Z"}
            )
        }
    )
    assert review(workspace(), gone, KNOWLEDGE, TODAY).allowed


def request(**facts: Any) -> AdmissionRequest:
    kind = {"group": "kaito.sh", "version": "v1alpha1", "kind": "Workspace"}
    return AdmissionRequest.model_validate(
        {"uid": "1", "kind": kind, "operation": "CREATE", **facts}
    )


def judge(asked: AdmissionRequest) -> tuple[bool, str]:
    verdict = Judge(KNOWLEDGE, lambda: TODAY)(asked)
    return verdict.allowed, verdict.message


BAD = manifest(size="A100")
LEAVING = BAD | {"metadata": BAD["metadata"] | {"deletionTimestamp": "2026-01-01T00:00:00Z"}}


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [
        (request(object=manifest()), True),
        (request(object=BAD), False),
        (request(object=BAD, subResource="status"), True),
        (request(object=BAD, oldObject=BAD, operation="UPDATE"), True),
        (request(object=BAD, oldObject=manifest(), operation="UPDATE"), False),
        (request(object=LEAVING, oldObject=manifest(), operation="UPDATE"), True),
        (request(oldObject=BAD, operation="DELETE"), True),
    ],
)
def test_requests_are_judged(asked: AdmissionRequest, allowed: bool) -> None:
    assert judge(asked)[0] == allowed


def test_an_object_that_cannot_be_read_is_refused_with_the_field() -> None:
    allowed, message = judge(request(object=manifest(resource={"count": "many"})))
    assert not allowed
    assert message.startswith("resource.count: ")
