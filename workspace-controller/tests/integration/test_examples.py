"""Every file under examples/, applied as a person would, admitted, and brought to its workload."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from workspace_world import Bench, ControllerProcess
from workspace_world.tuning import DIGEST, OUTPUT

from gpuapis.core import Deployment, Job, StatefulSet
from gpuapis.workspace import Workspace
from sandbox import tools
from sandbox.controlplane import ControlPlane
from sandbox.processes import clean_environment

pytestmark = pytest.mark.control_plane

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
FILES = sorted(path for path in EXAMPLES.rglob("*") if path.suffix in (".yaml", ".yml", ".json"))
WORKLOADS = (Deployment, StatefulSet, Job)
BYO = "byo"
"""In the name of a file: it is for nodes that the user brings."""


def documents(path: Path) -> list[dict[str, Any]]:
    return [each for each in yaml.safe_load_all(path.read_text()) if each]


def workspaces() -> Iterator[tuple[Path, str]]:
    for path in FILES:
        for document in documents(path):
            if document["kind"] == Workspace.RESOURCE.kind:
                yield path, document["metadata"]["name"]


def test_there_are_examples_and_each_holds_a_workspace() -> None:
    assert FILES
    assert {path for path, _ in workspaces()} == set(FILES)


def test_no_two_examples_share_a_name_or_nodes() -> None:
    names = [name for _, name in workspaces()]
    assert len(set(names)) == len(names)


def apply(plane: ControlPlane, path: Path, namespace: str) -> None:
    done = subprocess.run(
        [
            *(str(tools.binaries() / "kubectl"), "apply", "--namespace", namespace),
            *("--filename", str(path)),
        ],
        capture_output=True,
        text=True,
        check=False,
        env=clean_environment() | {"KUBECONFIG": str(plane.kubeconfig)},
    )
    assert done.returncode == 0, done.stderr


async def bring_nodes(bench: Bench, path: Path) -> None:
    """As many nodes as the file asks for, with the labels that it asks for."""
    for document in documents(path):
        resource = document.get("resource", {})
        for number in range(resource.get("count", 1) if resource else 0):
            marks = resource["labelSelector"]["matchLabels"]
            await bench.make_node(f"own-{document['metadata']['name']}-{number}", marks)


def tuned(path: Path) -> Iterator[str]:
    """The tuning Workspaces whose results the file serves."""
    for document in documents(path):
        for adapter in document.get("inference", {}).get("adapters", []):
            if "workspace" in adapter["source"]:
                yield adapter["source"]["workspace"]


async def end_well(bench: Bench, name: str) -> None:
    """Says that a run has succeeded, for nobody runs Jobs here."""
    key = bench.key(name)

    async def begun() -> bool:
        return await bench.exists(Job, key)

    async def over() -> bool:
        run = {"result": "Succeeded", "image": OUTPUT, "digest": DIGEST}
        await bench.client.merge_patch(
            Workspace.RESOURCE, key, {"status": {"tuning": run}}, subresource="status"
        )
        return (await bench.workspace(key)).status.state == "Succeeded"

    await bench.condition(key, "ResourceReady", "True", seconds=60.0)
    await bench.eventually(begun, f"the Job of {key}")
    await bench.eventually(over, f"the end of {key}")


async def serve(bench: Bench, plane: ControlPlane, files: list[Path]) -> None:
    """Applies all the files and waits until each of their Workspaces has its workload."""
    for path in files:
        apply(plane, path, bench.namespace)
    for path in files:
        for name in tuned(path):
            await end_well(bench, name)
    for path, name in workspaces():
        if path not in files:
            continue
        key = bench.key(name)
        await bench.condition(key, "ResourceReady", "True", seconds=60.0)

        async def there() -> bool:
            found = [await bench.exists(kind, key) for kind in WORKLOADS]  # noqa: B023
            return sum(found) == 1

        await bench.eventually(there, f"{path.name}: {key} has one workload")


async def test_every_example_for_nodes_that_are_made_is_served(
    controller: ControllerProcess, bench: Bench, control_plane: ControlPlane
) -> None:
    bench.world.gpus = 8  # whatever the size, it has enough
    await serve(bench, control_plane, [path for path in FILES if BYO not in path.stem])


async def test_every_example_for_nodes_of_ones_own_is_served(
    controller_process: ControllerProcess, bench: Bench, control_plane: ControlPlane
) -> None:
    controller_process.start(CLAIM_API="byo")
    files = [path for path in FILES if BYO in path.stem]
    for path in files:
        await bring_nodes(bench, path)
    await serve(bench, control_plane, files)
    assert bench.world.made == []
