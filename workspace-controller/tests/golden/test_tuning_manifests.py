"""The Jobs of tuning runs, held by golden files: `make golden` rewrites them."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from workspace_world.golden import as_text
from workspace_world.tuning import DEFAULTS, tuning

from gpuapis.workspace import Workspace
from workspace_controller.manifests.model import ModelSource
from workspace_controller.manifests.training_config import config_copy, method_of, output_folder
from workspace_controller.manifests.tuning_job import Run, asked_digest, tuning_job
from workspace_controller.presets.catalog import catalog
from workspace_controller.rules.check import findings
from workspace_controller.skus.table import sku_table
from workspace_controller.workspaces.target import Knowledge, Target, resolve

FOLDER = Path(__file__).parent / "tuning"
EXAMPLES = Path(__file__).resolve().parents[3] / "examples/fine-tuning"
TODAY = date(2026, 11, 24)
SOURCE = ModelSource("registry.example.com/gpu", "0.1.0")
LOCAL = ModelSource(
    "registry.example.com/gpu",
    "0.1.0",
    "http://hub.example.com",
    ("registry.example.com:5000",),
    private_data=True,
)
RUN = Run("0123456789abcdef", "/mnt/results", 1)
PHI = catalog().find("phi-3-mini-128k-instruct")
IMAGES: dict[str, Any] = {
    "input": {"image": "registry.example.com/team/data:1", "imagePullSecrets": ["push", "pull"]},
    "output": {"image": "registry.example.com/team/adapter:1", "imagePushSecret": "push"},
}
VOLUMES: dict[str, Any] = {
    "config": "mine",
    "method": "LoRA",
    "input": {"volumeSource": {"persistentVolumeClaim": {"claimName": "data", "readOnly": True}}},
    "output": {"volumeSource": {"persistentVolumeClaim": {"claimName": "results"}}},
}
PRIVATE: dict[str, Any] = {
    "preset": {
        "name": "phi-3-mini-128k-instruct",
        "accessMode": "private",
        "presetOptions": {"image": "registry.example.com/own:1", "imagePullSecrets": ["own"]},
    }
}
GATED: dict[str, Any] = {
    "preset": {
        "name": "phi-3-mini-128k-instruct",
        "presetOptions": {"modelAccessSecret": "hub-token"},
    },
    "input": {"urls": ["https://example.com/b.json", "https://example.com/a.json"]},
}


def workspace(annotations: dict[str, str] | None = None, **changes: Any) -> Workspace:
    metadata = {
        "name": "tune",
        "namespace": "team",
        "uid": "00000000-0000-0000-0000-000000000001",
        "annotations": annotations or {},
    }
    resource = {"labelSelector": {"matchLabels": {"apps": "tune"}}}
    return Workspace.model_validate(
        {"metadata": metadata, "resource": resource, "tuning": tuning(**changes)}
    )


def job(source: ModelSource = SOURCE, run: Run = RUN, **changes: Any) -> dict[str, Any]:
    assert PHI is not None
    return tuning_job(workspace(**changes), PHI, run, source)


GOLDEN: dict[str, dict[str, Any]] = {
    "job-urls": job(),
    "job-images": job(LOCAL, **IMAGES),
    "job-volumes": job(run=Run("0123456789abcdef", "/mnt/results", 2, 3600), **VOLUMES),
    "job-private": job(**PRIVATE),
    "job-gated": job(**GATED),
    "config-copy": config_copy(workspace(), RUN.key, DEFAULTS),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_the_manifest_is_as_reviewed(name: str) -> None:
    path = FOLDER / f"{name}.yaml"
    text = as_text(GOLDEN[name], path)
    assert path.read_text() == text


def test_every_golden_file_is_in_use() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(GOLDEN)


def test_what_cannot_go_better_is_not_tried_again() -> None:
    spec = job()["spec"]
    ignore, fail = spec["podFailurePolicy"]["rules"]
    assert ignore["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert fail["onExitCodes"] == {
        "containerName": "tune",
        "operator": "In",
        "values": [2, 3, 4, 5],
    }
    assert spec["backoffLimit"] == 2
    assert "ttlSecondsAfterFinished" not in spec


def test_no_secret_is_in_an_environment_and_each_is_where_it_is_needed() -> None:
    pod = job(LOCAL, **IMAGES)["spec"]["template"]["spec"]
    (puller,), (trainer,) = pod["initContainers"], pod["containers"]
    assert [each["name"] for each in pod["volumes"]].count("pull-secret-0") == 1
    assert "--docker-config=/mnt/secrets/pull/config.json" in puller["command"]
    assert not any("/mnt/secrets/pull/" in word for word in trainer["args"])
    assert {each["name"] for each in trainer["env"]} == {
        "HF_ENDPOINT",
        "HF_HOME",
        "PYTORCH_CUDA_ALLOC_CONF",
    }


def test_the_urls_keep_their_order() -> None:
    (trainer,) = job(**GATED)["spec"]["template"]["spec"]["containers"]
    urls = [word for word in trainer["args"] if word.startswith("--data_url=")]
    assert urls == [
        "--data_url=https://example.com/b.json",
        "--data_url=https://example.com/a.json",
    ]


def test_what_admission_lets_through_the_pod_may_fetch() -> None:
    allowed, refused = (
        job(source)["spec"]["template"]["spec"]["containers"][0]["args"]
        for source in (LOCAL, SOURCE)
    )
    assert "--allow_local_addresses" in allowed
    assert "--allow_local_addresses" not in refused


def test_a_run_is_named_by_what_was_asked_for() -> None:
    plain = asked_digest(workspace())
    assert plain == asked_digest(workspace(method="QLoRA"))
    assert plain == asked_digest(workspace({"example.com/other": "x"}))
    assert plain != asked_digest(workspace(method="lora"))
    assert plain != asked_digest(workspace({"kaito.sh/tuning-run": "2"}))
    assert plain != asked_digest(workspace(input={"urls": ["https://example.com/other"]}))
    assert plain != asked_digest(workspace(config="mine"))


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_example_is_admitted_and_can_be_run(path: Path) -> None:
    documents = list(yaml.safe_load_all(path.read_text()))
    (example,) = [Workspace.model_validate(d) for d in documents if d["kind"] == "Workspace"]
    knowledge = Knowledge(catalog(), sku_table("azure"))
    assert findings(example, knowledge, TODAY) == []
    target = resolve(example, knowledge, TODAY)
    assert isinstance(target, Target), target
    if example.tuning is None:
        return
    configs = {d["metadata"]["name"]: d["data"] for d in documents if d["kind"] == "ConfigMap"}
    folder = "/mnt/results"
    if example.tuning.config is not None:
        text = configs[example.tuning.config]["training_config.yaml"]
        assert output_folder(text, method_of(example)) == folder
    assert target.preset is not None
    assert tuning_job(example, target.preset, Run("run", folder, target.gpus), SOURCE)
