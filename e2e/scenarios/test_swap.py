"""Another provisioner in place of ours: upstream Karpenter serves a Workspace, its YAML unchanged."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conformance import karpenter
from sandbox.cluster.state import REPOSITORY
from sandbox.processes import Process, clean_environment, spawn

EXAMPLE = REPOSITORY / "examples" / "inference" / "kaito_workspace_phi_3.yaml"
NAME = "workspace-phi-3-mini"
PATIENCE = 120.0


class Cluster:
    """A sandbox without the gpu-provisioner, as a person uses it: by commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *words: str) -> None:
        command = [sys.executable, "-m", "sandbox", *words]
        environment = os.environ | {"SANDBOX_DIR": str(self.folder)}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=180, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def kubectl(self, *words: str) -> str:
        script = f'. {self.folder}/env && exec kubectl "$@"'
        command = ["sh", "-c", script, "sh", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def get(self, *words: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.kubectl("get", *words, "-o", "json"))
        return found

    def condition(self, kind: str, name: str, wanted: str) -> dict[str, str]:
        conditions = self.get(kind, name).get("status", {}).get("conditions", [])
        return next((each for each in conditions if each["type"] == wanted), {})

    def until_true(self, kind: str, name: str, wanted: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while (said := self.condition(kind, name, wanted)).get("status") != "True":
            assert time.monotonic() < deadline, f"{wanted} of {kind} {name}: {said}"
            time.sleep(0.5)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    karpenter.program()  # built outside of any test's patience
    cluster = Cluster(tmp_path_factory.mktemp("swap"))
    node_class = "/".join(karpenter.NODE_CLASS.values())
    cluster.run(
        *("up", "--without", "gpu-provisioner"),
        *("--claim-api", "nodeclaim", "--node-class", node_class),
    )
    process = _karpenter(cluster.folder)
    yield cluster
    asyncio.run(process.stop())
    cluster.run("down")


def _karpenter(folder: Path) -> Process:
    command = (sys.executable, "-m", "conformance.karpenter", "--kubeconfig")
    return spawn(
        "karpenter",
        (*command, str(folder / "kubeconfig")),
        log=folder / "log" / "karpenter.log",
        env=clean_environment(),
    )


def test_a_workspace_gets_its_node_from_karpenter_and_gives_it_back(cluster: Cluster) -> None:
    cluster.kubectl("apply", "-f", str(EXAMPLE))
    cluster.until_true("workspace", NAME, "ResourceReady")

    (claim,) = cluster.get("nodeclaims")["items"]
    assert claim["spec"]["nodeClassRef"] == karpenter.NODE_CLASS
    (node,) = (each for each in cluster.get("nodes")["items"] if _of(claim, each))
    assert node["spec"]["providerID"].startswith("kwok://")
    assert node["metadata"]["labels"]["kaito.sh/workspace"] == NAME
    cluster.until_true("workspace", NAME, "WorkspaceReady")

    cluster.kubectl("delete", "-f", str(EXAMPLE), "--timeout=90s")
    assert cluster.get("nodeclaims")["items"] == []
    assert not [each for each in cluster.get("nodes")["items"] if _of(claim, each)]


def _of(claim: dict[str, Any], node: dict[str, Any]) -> bool:
    owners = node["metadata"].get("ownerReferences", [])
    return any(owner["uid"] == claim["metadata"]["uid"] for owner in owners)
