from pathlib import Path

import pytest

from sandbox.controlplane import ControlPlane, crds


@pytest.mark.control_plane
async def test_the_charts_crds_are_served(
    control_plane: ControlPlane, apply_crds: list[str], namespace: str
) -> None:
    assert {"workspaces.kaito.sh", "machines.karpenter.sh"} <= set(apply_crds)
    path = f"/apis/kaito.sh/v1alpha1/namespaces/{namespace}/workspaces"
    assert (await control_plane.admin.call("GET", path))["items"] == []


def test_template_lines_are_left_out_and_all_documents_read(tmp_path: Path) -> None:
    folder = tmp_path / "some" / "templates" / "crds"
    folder.mkdir(parents=True)
    (folder / "a.yaml").write_text(
        "{{- if .Values.crds.install }}\nkind: A\n---\nkind: B\n{{- end }}\n"
    )
    assert crds.read(tmp_path) == [{"kind": "A"}, {"kind": "B"}]


@pytest.mark.control_plane
async def test_charts_without_crds_are_an_error(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match="make manifests"):
        await crds.apply_crds(control_plane.admin, tmp_path)
