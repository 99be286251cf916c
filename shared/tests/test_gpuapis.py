"""The API types: what a person's YAML becomes, and that the generated files are the types'."""

from pathlib import Path

import pytest
import yaml

from controlkit.crdgen import structural_schema, walk
from gpuapis import manifests
from gpuapis.core import Node, Pod
from gpuapis.workspace import Workspace

REPOSITORY = Path(__file__).parents[2]

PHI_3 = """
apiVersion: kaito.sh/v1alpha1
kind: Workspace
metadata: {name: phi-3, namespace: models, uid: u1, resourceVersion: "7", generation: 2}
resource:
  instanceType: Standard_NC6s_v3
  labelSelector: {matchLabels: {apps: phi-3}}
inference:
  preset: {name: phi-3-mini-128k-instruct}
"""


def test_a_workspace_reads_from_its_yaml() -> None:
    workspace = Workspace.model_validate(yaml.safe_load(PHI_3))
    assert str(workspace.key) == "models/phi-3"
    assert workspace.resource.count == 1
    assert workspace.resource.label_selector.match_labels == {"apps": "phi-3"}
    assert workspace.inference is not None
    assert workspace.inference.preset is not None
    assert workspace.inference.preset.access_mode == "public"


def test_a_workspace_writes_back_only_what_it_was_given() -> None:
    given = yaml.safe_load(PHI_3)
    assert Workspace.model_validate(given).manifest() == given


def test_every_field_that_a_person_can_set_explains_itself() -> None:
    for path, node in walk(structural_schema(Workspace)):
        own_or_item = path in {".apiVersion", ".kind", ".metadata"} or path.endswith("[]")
        assert own_or_item or node.get("description"), f"{path} has no docstring"


@pytest.mark.parametrize(
    ("quantity", "units"), [("1", 1), (8, 8), ("0", 0), ("500m", 0), (None, 0)]
)
def test_a_node_counts_its_whole_gpus(quantity: str | int | None, units: int) -> None:
    resources = {} if quantity is None else {"nvidia.com/gpu": quantity}
    node = Node.model_validate(
        {"metadata": {"name": "n"}, "status": {"allocatable": resources}},
    )
    assert node.allocatable("nvidia.com/gpu") == units


def test_the_charts_definitions_are_the_types() -> None:
    for name, text in manifests.files().items():
        assert (REPOSITORY / name).read_text() == text, f"{name}: run `make manifests`"


def test_check_names_a_file_that_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert manifests.main(["--root", str(tmp_path)]) == 0
    assert manifests.main(["--root", str(tmp_path), "--check"]) == 0
    victim = next(iter(manifests.files()))
    (tmp_path / victim).write_text("edited by hand")
    assert manifests.main(["--root", str(tmp_path), "--check"]) == 1
    assert victim in capsys.readouterr().out


def test_views_read_the_api_s_own_spelling_of_initialisms() -> None:
    node = Node.model_validate({"metadata": {"name": "n"}, "spec": {"providerID": "azure:///vm"}})
    pod = Pod.model_validate({"metadata": {"name": "p"}, "status": {"podIP": "10.0.0.1"}})
    assert (node.spec.provider_id, pod.status.pod_ip) == ("azure:///vm", "10.0.0.1")
