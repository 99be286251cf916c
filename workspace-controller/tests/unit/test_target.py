"""What a Workspace needs, or why it cannot be served."""

from datetime import date
from typing import Any

import pytest

from gpuapis.workspace import Workspace
from workspace_controller.presets.catalog import catalog
from workspace_controller.skus.table import sku_table
from workspace_controller.workspaces.facts import Problem
from workspace_controller.workspaces.target import Knowledge, Target, resolve

TODAY = date(2026, 11, 24)
PHI = {"preset": {"name": "phi-3-mini-128k-instruct"}}
TEMPLATE = {"template": {"spec": {"containers": [{"name": "a", "image": "b"}]}}}


TASK: dict[str, Any] = PHI | {"method": "qlora", "input": {}, "output": {}}


def workspace(
    size: str | None = "Standard_NC6s_v3",
    inference: dict[str, Any] | None = PHI,
    *,
    selector: dict[str, Any] | None = None,
    status: dict[str, Any] | None = None,
    notes: dict[str, str] | None = None,
    count: int = 1,
    tuning: dict[str, Any] | None = None,
) -> Workspace:
    resource: dict[str, Any] = {
        "labelSelector": selector or {"matchLabels": {"apps": "x"}},
        "count": count,
    }
    if size is not None:
        resource["instanceType"] = size
    return Workspace.model_validate(
        {
            "metadata": {"name": "w", "namespace": "n", "annotations": notes or {}},
            "resource": resource,
            "inference": inference if tuning is None else None,
            "tuning": tuning,
            "status": status or {},
        }
    )


def resolved(seen: Workspace, *, byo: bool = False, cloud: str = "azure") -> Target | Problem:
    return resolve(seen, Knowledge(catalog(), sku_table(cloud), byo), TODAY)


TARGETS: dict[str, tuple[Workspace, dict[str, Any], tuple[str, int, str]]] = {
    "the-size-asked-for": (workspace(), {}, ("Standard_NC6s_v3", 1, "50Gi")),
    "the-spelling-of-the-table": (
        workspace("standard_nc6s_v3"),
        {},
        ("Standard_NC6s_v3", 1, "50Gi"),
    ),
    "all-gpus-of-the-size": (workspace("Standard_NC12s_v3"), {}, ("Standard_NC12s_v3", 2, "50Gi")),
    "a-size-we-do-not-know": (workspace("Standard_NC9_v9"), {}, ("Standard_NC9_v9", 1, "50Gi")),
    "the-cheapest-size": (workspace(None), {}, ("Standard_NC4as_T4_v3", 1, "50Gi")),
    "the-size-chosen-before": (
        workspace(None, status={"instanceType": "Standard_NC8as_T4_v3"}),
        {},
        ("Standard_NC8as_T4_v3", 1, "50Gi"),
    ),
    "a-template": (workspace(inference=TEMPLATE), {}, ("Standard_NC6s_v3", 1, "0")),
    "own-nodes-of-any-size": (workspace(None), {"byo": True}, ("", 1, "50Gi")),
    "own-nodes-of-one-size-need-only-the-models-gpus": (
        workspace("Standard_NC12s_v3"),
        {"byo": True},
        ("Standard_NC12s_v3", 1, "50Gi"),
    ),
}


@pytest.mark.parametrize("case", TARGETS)
def test_targets(case: str) -> None:
    seen, how, expected = TARGETS[case]
    found = resolved(seen, **how)
    assert isinstance(found, Target), found
    assert (found.instance_type, found.gpus, found.disk) == expected


QWEN = {"preset": {"name": "qwen3.5-9b"}}
LLAMA = {
    "preset": {
        "name": "llama-3.3-70b-instruct",
        "presetOptions": {"modelAccessSecret": "hub-token"},
    }
}


@pytest.mark.parametrize(
    ("seen", "pod_gpus", "nodes", "engine"),
    [
        (workspace("Standard_NC12s_v3"), 1, 1, None),
        (workspace("Standard_NC96ads_A100_v4", LLAMA), 4, 1, None),
        (workspace("Standard_NC24ads_A100_v4", LLAMA, count=3), 1, 3, "vllm"),
        # It does not fit: it gets all there is, for somebody waived the check.
        (workspace("Standard_NC24ads_A100_v4", LLAMA), 1, 1, None),
        (workspace("Standard_NC12s_v3", {"preset": {"name": "falcon-7b"}}), 1, 1, "transformers"),
        (workspace("Standard_NC9_v9", LLAMA), 1, 1, None),
        (workspace(notes={"kaito.sh/runtime": "transformers"}), 1, 1, "transformers"),
        (workspace(notes={"kaito.sh/runtime": "magic"}), 1, 1, None),
        # An image without vLLM has to say so, rather than to try what cannot be.
        (workspace("Standard_NC24ads_A100_v4", QWEN), 1, 1, "vllm"),
        (workspace("Standard_NC9_v9", QWEN), 1, 1, "vllm"),
        (workspace("Standard_NC4as_T4_v3", QWEN), 1, 1, "vllm"),
    ],
)
def test_how_a_copy_runs(seen: Workspace, pod_gpus: int, nodes: int, engine: str | None) -> None:
    found = resolved(seen)
    assert isinstance(found, Target), found
    assert (found.pod_gpus, found.nodes, found.engine) == (pod_gpus, nodes, engine)


@pytest.mark.parametrize(
    ("seen", "percent"),
    [
        (workspace("Standard_NC24ads_A100_v4"), 84),
        (workspace("Standard_NV36ads_A10_v5"), 82),
        (workspace(None), 84),
        (workspace("Standard_NC9_v9"), None),
        (workspace("Standard_NC24ads_A100_v4", TEMPLATE), None),
        # Only transformers fits, and it sets nothing aside.
        (workspace("Standard_NC6s_v3", {"preset": {"name": "falcon-7b"}}), None),
    ],
)
def test_the_server_gets_the_share_of_memory_that_was_reckoned_with(
    seen: Workspace, percent: int | None
) -> None:
    found = resolved(seen)
    assert isinstance(found, Target)
    assert found.memory_percent == percent


@pytest.mark.parametrize(
    ("size", "method", "expected"),
    [
        (None, "qlora", ("Standard_NV12ads_A10_v5", 1, "80Gi")),
        (None, "LoRA", ("Standard_NV18ads_A10_v5", 1, "80Gi")),
        ("Standard_NC64as_T4_v3", "lora", ("Standard_NC64as_T4_v3", 4, "80Gi")),
    ],
)
def test_tuning_uses_all_gpus_of_a_size_that_holds_the_model(
    size: str | None, method: str, expected: tuple[str, int, str]
) -> None:
    task = {"preset": PHI["preset"], "method": method, "input": {}, "output": {}}
    found = resolved(workspace(size, tuning=task))
    assert isinstance(found, Target), found
    assert (found.instance_type, found.pod_gpus, found.disk) == expected
    assert found.gpus == found.pod_gpus
    assert (found.nodes, found.engine) == (1, None)


def test_the_reason_goes_with_the_choice_and_only_with_it() -> None:
    found = resolved(workspace(None))
    assert isinstance(found, Target)
    assert found.chosen_because.startswith("Standard_NC4as_T4_v3 (1 x T4, 16 GiB each) is the")
    for settled in (workspace(), workspace(None, status={"instanceType": "Standard_NC8as_T4_v3"})):
        found = resolved(settled)
        assert isinstance(found, Target)
        assert found.chosen_because == ""


PROBLEMS: dict[str, tuple[Workspace, dict[str, Any], str, str]] = {
    "tuning-by-no-known-method": (
        workspace(tuning=TASK | {"method": "full"}),
        {},
        "TuningMethodUnknown",
        "tuning.method is 'full'; allowed: lora, qlora",
    ),
    "tuning-an-unknown-preset": (
        workspace(tuning=TASK | {"preset": {"name": "phi-33"}}),
        {},
        "PresetUnknown",
        "tuning.preset.name 'phi-33' is not a known preset",
    ),
    "tuning-what-cannot-be-tuned": (
        workspace(tuning=TASK | {"preset": {"name": "falcon-7b-instruct"}}),
        {},
        "PresetNotTunable",
        "Presets that can: ",
    ),
    "an-engine-that-cannot-serve-the-model": (
        workspace("Standard_NC9_v9", QWEN, notes={"kaito.sh/runtime": "transformers"}),
        {},
        "EngineUnusable",
        "metadata.annotations[kaito.sh/runtime] is 'transformers', and qwen3.5-9b is served by vllm",
    ),
    "tuning-a-private-preset-without-its-image": (
        workspace(tuning=TASK | {"preset": PHI["preset"] | {"accessMode": "private"}}),
        {},
        "PresetImageMissing",
        "tuning.preset.presetOptions.image is empty",
    ),
    "no-work": (workspace(inference=None), {}, "PresetUnknown", "tuning.preset is missing"),
    "an-unknown-preset": (
        workspace(inference={"preset": {"name": "phi-3"}}),
        {},
        "PresetUnknown",
        "Did you mean phi-3-mini",
    ),
    "a-preset-like-no-other": (
        workspace(inference={"preset": {"name": "zzz"}}),
        {},
        "PresetUnknown",
        "not a known preset. Known families: falcon, llama-2",
    ),
    "a-private-preset-without-image": (
        workspace(inference={"preset": {"name": "falcon-7b", "accessMode": "private"}}),
        {},
        "PresetImageMissing",
        "presetOptions.image is empty",
    ),
    "a-private-preset-that-is-called-public": (
        workspace(None, {"preset": {"name": "llama-2-13b-chat"}}),
        {},
        "PresetImageMissing",
        "say private, and name an image",
    ),
    "a-gated-preset-without-token": (
        workspace(None, {"preset": {"name": "llama-3.1-8b-instruct"}}),
        {},
        "ModelAccessSecretMissing",
        "name a Secret with the key HF_TOKEN",
    ),
    "an-empty-selector": (
        workspace(selector={"matchExpressions": []}),
        {},
        "LabelSelectorUnusable",
        "would take any node",
    ),
    "a-selector-no-label-can-fulfil": (
        workspace(selector={"matchExpressions": [{"key": "a", "operator": "Exists"}]}),
        {},
        "LabelSelectorUnusable",
        "the expression on 'a' uses Exists",
    ),
    "a-selector-that-contradicts-itself": (
        workspace(
            selector={
                "matchLabels": {"a": "1"},
                "matchExpressions": [{"key": "a", "operator": "In", "values": ["2"]}],
            }
        ),
        {},
        "LabelSelectorUnusable",
        "no value of 'a' fulfils all that is asked of it: 1 on one side, 2 on the other",
    ),
    "a-template-that-is-none": (
        workspace(inference={"template": {"spec": {"containers": [{"image": "b"}]}}}),
        {},
        "TemplateRejected",
        "inference.template.spec.containers[0].name",
    ),
    "a-size-of-another-cloud": (
        workspace("p4d.24xlarge"),
        {},
        "InstanceTypeUnknown",
        "Allowed: sizes that begin with Standard_N",
    ),
    "a-size-that-a-closed-table-lacks": (
        workspace("p4d.24xlargo"),
        {"cloud": "aws"},
        "InstanceTypeUnknown",
        "Did you mean p4d.24xlarge? Allowed: p4d.24xlarge, p4de.24xlarge",
    ),
    "no-size-for-a-template": (
        workspace(None, inference=TEMPLATE),
        {},
        "InstanceTypeUnknown",
        "a template does not say what it needs",
    ),
    "no-priced-size": (workspace(None), {"cloud": "aws"}, "NoInstanceTypeFits", "no priced size"),
}


@pytest.mark.parametrize("case", PROBLEMS)
def test_problems(case: str) -> None:
    seen, how, reason, words = PROBLEMS[case]
    found = resolved(seen, **how)
    assert isinstance(found, Problem), found
    assert found.reason == reason
    assert words in found.message


def test_an_in_expression_with_one_value_is_a_label() -> None:
    one = {"matchExpressions": [{"key": "a", "operator": "In", "values": ["1"]}]}
    assert isinstance(resolved(workspace(selector=one)), Target)
