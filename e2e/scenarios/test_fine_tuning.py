"""The quick start of fine-tuning on real nodes: data in, an adapter out, and a model that serves it."""

import copy
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import yaml

from sandbox.cluster.registry import PASSWORD, USER
from sandbox.cluster.state import REPOSITORY
from sandbox.commands import Sandbox, eventually
from sandbox.nodes.kubelet import obstacles

pytestmark = pytest.mark.skipif(bool(obstacles()), reason="; ".join(obstacles()))

EXAMPLES = REPOSITORY / "examples" / "fine-tuning"
SECRET = "tuning-registry"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
PROMPT = "What is a GPU?"
GREEDY: dict[str, Any] = {"do_sample": False, "max_new_tokens": 24}
PATIENCE = 300


def example(file: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((EXAMPLES / file).read_text())
    return found


def renamed(workspace: dict[str, Any], name: str, adapters: list[dict[str, Any]]) -> dict[str, Any]:
    other = copy.deepcopy(workspace)
    other["metadata"]["name"] = name
    other["resource"]["labelSelector"]["matchLabels"]["apps"] = name
    other["inference"]["adapters"] = adapters
    return other


def test_a_tuned_adapter_is_pushed_by_its_job_and_changes_what_a_model_answers(
    level2: Sandbox,
) -> None:
    registry = urlsplit(level2.endpoint("registry")).netloc.rpartition("@")[2]
    nodes = level2.names("nodes")
    tuning, tuned = (
        example("workspace_tuning_phi_3.yaml"),
        example("workspace_inference_tuned.yaml"),
    )
    (url,) = tuning["tuning"]["input"]["urls"]
    hub = level2.endpoint("hub")
    tuning["tuning"]["input"]["urls"] = [url.replace("https://huggingface.co", hub)]
    tuning["tuning"]["output"]["image"] = f"{registry}/team/phi-3-dolly:1"
    login = (f"--docker-username={USER}", f"--docker-password={PASSWORD}")
    level2.kubectl(
        "create", "secret", "docker-registry", SECRET, f"--docker-server={registry}", *login
    )

    level2.apply(tuning, tuned, renamed(tuned, "base", []))
    _waits_without_a_node(level2, tuned["metadata"]["name"])
    level2.until_ready(tuning["metadata"]["name"], seconds=PATIENCE)
    done = level2.get("workspace", tuning["metadata"]["name"])["status"]["tuning"]

    assert done["step"] == done["totalSteps"] > 0
    assert done["digest"] == _pushed(registry)
    image = f"{registry}/team/phi-3-dolly@{done['digest']}"
    source = {"name": "dolly", "image": image, "imagePullSecrets": [SECRET]}
    level2.apply(renamed(tuned, "by-image", [{"source": source}]))
    served = (tuned["metadata"]["name"], "base", "by-image")
    for name in served:
        level2.until_ready(name, seconds=PATIENCE)
    by_workspace, base, by_image = (level2.chat(name, PROMPT, **GREEDY) for name in served)

    assert by_workspace == by_image
    assert by_workspace != base
    assert level2.names("machines") == _claims(level2, served)  # the run's node is given up

    level2.kubectl("delete", "workspaces", "--all", f"--timeout={PATIENCE}s")
    eventually(lambda: level2.names("nodes"), nodes, seconds=PATIENCE)


def _waits_without_a_node(sandbox: Sandbox, name: str) -> None:
    def reason() -> object:
        conditions = sandbox.get("workspace", name).get("status", {}).get("conditions", [])
        return [each["reason"] for each in conditions if each["type"] == "InferenceReady"]

    eventually(reason, ["AdapterNotReady"], seconds=30)
    assert _claims(sandbox, [name]) == set()


def _claims(sandbox: Sandbox, workspaces: Iterable[str]) -> set[str]:
    wanted = f"--selector=kaito.sh/workspace in ({','.join(workspaces)})"
    return sandbox.names("machines", wanted)


def _pushed(registry: str) -> str:
    """What the registry says that it holds."""
    answer = httpx.head(
        f"http://{registry}/v2/team/phi-3-dolly/manifests/1",
        headers={"Accept": MANIFEST},
        auth=(USER, PASSWORD),
        trust_env=False,
    )
    answer.raise_for_status()
    digest: str = answer.headers["Docker-Content-Digest"]
    return digest
