"""The manifests, held by golden files: `make golden` rewrites them, and the diff is the review."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from workspace_world.golden import as_text

from gpuapis.workspace import Workspace
from workspace_controller.manifests.adapters import Adapter, adapter
from workspace_controller.manifests.claims import ClaimNeed, NodeClass, machine, node_claim
from workspace_controller.manifests.model import Model, ModelSource
from workspace_controller.manifests.service import (
    headless_service,
    service,
    service_digest,
    target_port,
)
from workspace_controller.manifests.workload import workload, workload_digest
from workspace_controller.presets.catalog import catalog
from workspace_controller.rules.check import findings
from workspace_controller.skus.table import sku_table
from workspace_controller.workspaces.target import Knowledge, Target, resolve

FOLDER = Path(__file__).parent
SOURCE = ModelSource("registry.example.com/gpu", "0.1.0")
NEED = ClaimNeed("ws123456789", 1, 2, "Standard_NC6s_v3", 1, "50Gi")
CLASS = NodeClass("kaito.sh", "KaitoNodeClass", "default")
EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


def workspace(
    name: str = "phi",
    preset: dict[str, Any] | None = None,
    *,
    template: dict[str, Any] | None = None,
    annotations: dict[str, str] | None = None,
    adapters: tuple[dict[str, Any], ...] = (),
    config: str | None = None,
    **resource: Any,
) -> Workspace:
    inference: dict[str, Any] = {"preset": {"name": "phi-3-mini-128k-instruct", **(preset or {})}}
    if adapters:
        inference["adapters"] = adapters
    if config is not None:
        inference["config"] = config
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


def model(seen: Workspace, **changes: Any) -> Model:
    """As the controller makes it of a Workspace whose ConfigMap, if it names one, is there."""
    assert seen.inference is not None
    if seen.inference.preset is None:
        return Model(**changes)
    preset = catalog().find(seen.inference.preset.name)
    assert preset is not None
    known: dict[str, Any] = {
        "gpus": preset.gpus,
        "adapters": tuple(adapter(spec) for spec in seen.inference.adapters),
        "config": "0123456789abcdef" if seen.inference.config else "",
    }
    return Model(preset, **known | changes)


def served(seen: Workspace, source: ModelSource = SOURCE, **changes: Any) -> dict[str, Any]:
    return workload(seen, model(seen, **changes), source)


def wish(seen: Workspace, **changes: Any) -> str:
    return workload_digest(seen, model(seen, **changes))


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
WITH_IMAGE = {
    "source": {
        "name": "chatty",
        "image": "registry.example.com/team/chatty:1",
        "imagePullSecrets": ["team-registry", "a.long.name"],
    },
    "strength": "0.5",
}
WITH_VOLUME = {
    "source": {"name": "terse", "volumeSource": {"persistentVolumeClaim": {"claimName": "terse"}}}
}
OPEN_IMAGE = {"source": {"name": "bold", "image": "registry.example.com/team/bold:1"}}
ADAPTERS = (WITH_IMAGE, WITH_VOLUME, OPEN_IMAGE)
INSECURE = ModelSource("registry.example.com/gpu", "0.1.0", "", ("registry.local:5000",))
ONE = Model()
SPREAD = Model(nodes=2)

# Formats that are and are not the model's own, contexts short and long, and one without a commit.
ONE_OF_EACH_KIND = (
    *("falcon-7b", "falcon-7b-instruct", "phi-3-mini-4k-instruct", "phi-3-mini-128k-instruct"),
    "ministral-3-3b-instruct",
)

GOLDEN: dict[str, dict[str, Any]] = {
    **{
        f"deployment-{name}": served(workspace("model", {"name": name}))
        for name in ONE_OF_EACH_KIND
    },
    "deployment-two-nodes": served(workspace(count=2)),
    "deployment-two-gpus": served(workspace(), gpus=2, memory_percent=82),
    "deployment-only-transformers": served(workspace(), engine="transformers"),
    "deployment-private": served(workspace(preset=PRIVATE)),
    "deployment-gated": served(
        workspace(preset={"presetOptions": {"modelAccessSecret": "hub-token"}})
    ),
    "deployment-other-hub": served(
        workspace(), ModelSource("registry.example.com/gpu", "0.1.0", "http://hub.example.com")
    ),
    "deployment-adapters": served(workspace(adapters=ADAPTERS), INSECURE),
    "deployment-config": served(workspace(config="settings")),
    "deployment-engine": served(workspace(annotations={"kaito.sh/runtime": "transformers"})),
    "deployment-upgraded": served(workspace(annotations={"kaito.sh/upgrade-to-version": "0.9.0"})),
    "statefulset": served(workspace(count=2), nodes=2, gpus=8),
    "statefulset-adapters": served(
        workspace(count=3, adapters=ADAPTERS, config="settings"), INSECURE, nodes=3, gpus=4
    ),
    "deployment-template": served(workspace("own", template=TEMPLATE)),
    "deployment-bare-template": served(workspace("own", template=BARE)),
    "service-preset": service(workspace(), ONE),
    "service-balanced": service(workspace(annotations=BALANCED), ONE),
    "service-template": service(workspace("own", template=TEMPLATE), ONE),
    "service-spread": service(workspace(), SPREAD),
    "service-headless": headless_service(workspace(), SPREAD),
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
    text = as_text(GOLDEN[name], path)
    assert path.read_text() == text


def test_every_golden_file_is_in_use() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(GOLDEN)


def test_ownership_wins_over_a_selector_that_claims_it() -> None:
    thief = workspace(labelSelector={"matchLabels": {"kaito.sh/workspace": "other", "a": "b"}})
    for claim in (machine(thief, NEED), node_claim(thief, NEED, CLASS, azure=True)):
        assert claim["metadata"]["labels"]["kaito.sh/workspace"] == "phi"
        assert claim["metadata"]["labels"]["a"] == "b"


def test_a_template_without_a_port_gets_no_service() -> None:
    assert service_digest(workspace("own", template=BARE), ONE) == ""


@pytest.mark.parametrize(
    ("ports", "expected"),
    [
        ([], None),
        ([{"containerPort": 8080}, {"containerPort": 9000}], 8080),
        ([{"containerPort": 8080}, {"containerPort": 5000}], 5000),
        ([{"containerPort": 5000}, {"name": "http", "containerPort": 8000}], 8000),
    ],
    ids=["none", "the-first", "the-usual-one", "the-one-named-http"],
)
def test_the_port_of_a_template_that_answers(
    ports: list[dict[str, Any]], expected: int | None
) -> None:
    container = {"name": "own", "image": "example.com/own:1", "ports": ports}
    assert target_port(workspace("own", template={"spec": {"containers": [container]}})) == expected


def test_the_workloads_hash_is_over_what_the_user_wrote() -> None:
    before = wish(workspace())
    assert before == wish(workspace(count=5))
    assert before == wish(workspace(annotations=BALANCED))
    assert before == wish(workspace(preset={"accessMode": "public"}))
    assert before != wish(workspace(preset=PRIVATE))
    plain, balanced = workspace(), workspace(annotations=BALANCED)
    assert service_digest(plain, ONE) != service_digest(balanced, ONE)


@pytest.mark.parametrize(
    "changes",
    [
        {"adapters": (OPEN_IMAGE,)},
        {"adapters": (OPEN_IMAGE | {"strength": "0.5"},)},
        {"annotations": {"kaito.sh/runtime": "vllm"}},
        {"annotations": {"kaito.sh/upgrade-to-version": "0.9.0"}},
        {"config": "settings"},
    ],
    ids=str,
)
def test_each_thing_that_a_user_can_change_makes_another_hash(changes: dict[str, Any]) -> None:
    changed = workspace(**changes)
    assert wish(changed) != wish(workspace())
    plain, other = served(workspace()), served(changed)
    assert plain["spec"]["template"] != other["spec"]["template"]


def test_the_hash_covers_what_the_spec_refers_to() -> None:
    configured = workspace(config="settings")
    assert wish(configured, config="1") != wish(configured, config="2")
    assert wish(workspace(), nodes=2) != wish(workspace(), nodes=3)


def test_another_run_of_the_workspace_that_tuned_an_adapter_restarts_nothing() -> None:
    tuned = workspace(adapters=({"source": {"name": "a", "workspace": "tune"}},))
    first, second = (
        Adapter("a", image=f"registry.example.com/tuned@sha256:{digit * 64}") for digit in "12"
    )
    assert wish(tuned, adapters=(first,)) == wish(tuned, adapters=(second,))


def test_the_hash_covers_nothing_that_only_the_operator_can_change() -> None:
    before = workspace()
    after = model(before).preset
    assert after is not None
    newer = after.model_copy(update={"revision": "0" * 40, "gpus": 2})
    assert wish(before) == workload_digest(before, Model(newer, gpus=2))
    assert (
        served(before, ModelSource("elsewhere.example.com", "2", "http://hub"))["metadata"]
        == (served(before)["metadata"])
    )
    # As the first release wrote it: a later one that hashes anew would restart every model.
    assert wish(before) == "5db89c39c56b1e4c"
    assert wish(workspace("own", template=BARE)) == "b4ca4dc7ae972e56"


def test_parts_of_one_copy_get_the_same_weights_and_adapters_as_a_whole_one() -> None:
    parts = workspace(count=2, adapters=ADAPTERS)
    whole, spread = (served(parts, nodes=nodes)["spec"]["template"]["spec"] for nodes in (1, 2))
    assert whole["initContainers"] == spread["initContainers"]
    assert whole["volumes"] == spread["volumes"]


def test_no_container_is_told_a_secret_in_its_environment() -> None:
    pod = served(
        workspace(adapters=ADAPTERS, preset={"presetOptions": {"modelAccessSecret": "hub-token"}})
    )["spec"]["template"]["spec"]
    (server,) = pod["containers"]
    for container in (server, *pod["initContainers"]):
        assert "secretKeyRef" not in str(container["env"])
    assert "pull-secret" not in str(server["volumeMounts"])
    assert "hub-token" not in str(pod["initContainers"])


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


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_example_is_admitted(path: Path) -> None:
    documents = [each for each in yaml.safe_load_all(path.read_text()) if each]
    examples = [each for each in documents if each["kind"] == Workspace.RESOURCE.kind]
    assert examples
    for example in map(Workspace.model_validate, examples):
        knowledge = Knowledge(catalog(), sku_table("azure"))
        assert findings(example, knowledge, date(2026, 11, 24)) == []
        target = resolve(example, knowledge, date(2026, 11, 24))
        assert isinstance(target, Target)
        # Who copies one that the default image cannot serve is told so at its head.
        assert (target.engine == "vllm") == ("Needs the GPU build" in path.read_text())
