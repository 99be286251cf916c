"""The manifests, held by golden files: `make golden` rewrites them, and the diff is the review."""

import os
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from gpuapis.workspace import Workspace
from workspace_controller.manifests.claims import ClaimNeed, NodeClass, machine, node_claim
from workspace_controller.manifests.deployment import deployment, deployment_digest
from workspace_controller.manifests.model_pod import ModelSource
from workspace_controller.manifests.service import service, service_digest
from workspace_controller.presets.catalog import catalog
from workspace_controller.skus.table import sku_table
from workspace_controller.webhooks.rules import problems
from workspace_controller.workspaces.target import Knowledge

FOLDER = Path(__file__).parent
SOURCE = ModelSource("registry.example.com/gpu", "0.1.0")
NEED = ClaimNeed("ws123456789", 1, 2, "Standard_NC6s_v3", 1, "50Gi")
CLASS = NodeClass("kaito.sh", "KaitoNodeClass", "default")
EXAMPLES = Path(__file__).resolve().parents[3] / "examples/inference"


class Plain(yaml.SafeDumper):
    """Writes what is used twice twice, as the API server gets it."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def workspace(
    name: str = "phi",
    preset: dict[str, Any] | None = None,
    template: dict[str, Any] | None = None,
    annotations: dict[str, str] | None = None,
    **resource: Any,
) -> Workspace:
    inference: dict[str, Any] = {"preset": {"name": "phi-3-mini-128k-instruct", **(preset or {})}}
    return Workspace.model_validate(
        {
            "metadata": {
                "name": name,
                "namespace": "team",
                "uid": "00000000-0000-0000-0000-000000000001",
                "annotations": annotations or {},
            },
            "resource": {
                "instanceType": "Standard_NC6s_v3",
                "labelSelector": {"matchLabels": {"apps": name}},
                **resource,
            },
            "inference": {"template": template} if template is not None else inference,
        }
    )


def served(seen: Workspace, source: ModelSource = SOURCE, **changes: Any) -> dict[str, Any]:
    assert seen.inference is not None
    if seen.inference.preset is None:
        return deployment(seen, None, source)
    preset = catalog().find(seen.inference.preset.name)
    assert preset is not None
    return deployment(seen, preset.model_copy(update=changes), source)


PRIVATE = {
    "accessMode": "private",
    "presetOptions": {"image": "example.com/own:1", "imagePullSecrets": ["pull"]},
}
TEMPLATE = {
    "metadata": {"labels": {"team": "a"}},
    "spec": {
        "tolerations": [{"key": "spot", "operator": "Exists"}],
        "affinity": {
            "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []},
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [
                        {"matchExpressions": [{"key": "zone", "operator": "Exists"}]}
                    ]
                }
            },
        },
        "containers": [
            {"name": "sidecar", "image": "example.com/s:1", "ports": [{"containerPort": 9000}]},
            {
                "name": "own",
                "image": "example.com/own:1",
                "ports": [{"name": "http", "containerPort": 8000}],
            },
        ],
    },
}
BARE = {"spec": {"containers": [{"name": "own", "image": "example.com/own:1"}]}}
BALANCED = {"kaito.sh/enablelb": "True"}

GOLDEN: dict[str, dict[str, Any]] = {
    **{
        f"deployment-{name}": served(workspace("model", {"name": name})) for name in catalog().names
    },
    "deployment-two-nodes": served(workspace(count=2)),
    "deployment-two-gpus": served(workspace(), gpus=2),
    "deployment-private": served(workspace(preset=PRIVATE)),
    "deployment-gated": served(
        workspace(preset={"presetOptions": {"modelAccessSecret": "hub-token"}})
    ),
    "deployment-other-hub": served(
        workspace(), ModelSource("registry.example.com/gpu", "0.1.0", "http://hub.example.com")
    ),
    "deployment-template": served(workspace("own", template=TEMPLATE)),
    "deployment-bare-template": served(workspace("own", template=BARE)),
    "service-preset": service(workspace()),
    "service-balanced": service(workspace(annotations=BALANCED)),
    "service-template": service(workspace("own", template=TEMPLATE)),
    "machine": machine(workspace(), NEED),
    "nodeclaim-azure": node_claim(workspace(), NEED, CLASS, azure=True),
    "nodeclaim-elsewhere": node_claim(
        workspace(annotations={"kaito.sh/node-image-family": "azurelinux"}),
        NEED,
        NodeClass("karpenter.k8s.aws", "EC2NodeClass", "gpu"),
        azure=False,
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_the_manifest_is_as_reviewed(name: str) -> None:
    path = FOLDER / f"{name}.yaml"
    text = yaml.dump(GOLDEN[name], Dumper=Plain, sort_keys=False, width=100)
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert path.read_text() == text


def test_every_golden_file_is_in_use() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(GOLDEN)


def test_ownership_wins_over_a_selector_that_claims_it() -> None:
    thief = workspace(labelSelector={"matchLabels": {"kaito.sh/workspace": "other", "a": "b"}})
    for claim in (machine(thief, NEED), node_claim(thief, NEED, CLASS, azure=True)):
        assert claim["metadata"]["labels"]["kaito.sh/workspace"] == "phi"
        assert claim["metadata"]["labels"]["a"] == "b"


def test_a_template_without_a_port_gets_no_service() -> None:
    assert service_digest(workspace("own", template=BARE)) == ""


def test_the_workloads_hash_is_over_what_the_user_wrote() -> None:
    before = workspace()
    assert deployment_digest(before) == deployment_digest(workspace(count=5))
    assert deployment_digest(before) == deployment_digest(workspace(annotations=BALANCED))
    assert deployment_digest(before) == deployment_digest(
        workspace(preset={"accessMode": "public"})
    )
    assert deployment_digest(before) != deployment_digest(workspace(preset=PRIVATE))
    assert service_digest(before) != service_digest(workspace(annotations=BALANCED))


def test_scaling_builds_the_same_pod_as_starting_with_that_count() -> None:
    one, two = served(workspace()), served(workspace(count=2))
    assert one["spec"]["template"] == two["spec"]["template"]


def test_a_pod_that_goes_answers_until_nobody_asks_it_any_more() -> None:
    pod = served(workspace())["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == 85
    (server,) = pod["containers"]
    assert server["lifecycle"] == {"preStop": {"sleep": {"seconds": 5}}}


def test_building_twice_changes_nothing() -> None:
    template = workspace("own", template=TEMPLATE)
    assert served(template) == served(template)
    assert template.inference is not None
    assert template.inference.template == TEMPLATE


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_example_is_admitted_and_served(path: Path) -> None:
    example = Workspace.model_validate(yaml.safe_load(path.read_text()))
    assert problems(example, Knowledge(catalog(), sku_table("azure")), date(2026, 11, 24)) == []
