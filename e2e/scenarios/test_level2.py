"""The whole road on real nodes: from `kubectl apply` to an answer, and back to a clean host."""

import json

import pytest

from sandbox.cluster.state import REPOSITORY
from sandbox.commands import Sandbox, eventually
from sandbox.nodes.kubelet import obstacles

pytestmark = pytest.mark.skipif(bool(obstacles()), reason="; ".join(obstacles()))

EXAMPLE = REPOSITORY / "examples" / "inference" / "kaito_workspace_phi_3.yaml"
WORKSPACE = "workspace-phi-3-mini"
READY_SECONDS = 240
GONE_SECONDS = 120


def test_a_workspace_becomes_a_served_model_on_a_real_node_and_goes_without_a_trace(
    level2: Sandbox,
) -> None:
    nodes = level2.names("nodes")
    pools = level2.pools()

    level2.kubectl("apply", "-f", str(EXAMPLE))
    level2.until_ready(WORKSPACE, seconds=READY_SECONDS)

    assert len(level2.names("machines")) == 1
    assert len(level2.names("nodes") - nodes) == 1
    (pod,) = json.loads(level2.kubectl("get", "pods", "--output=json"))["items"]
    assert f"node/{pod['spec']['nodeName']}" in level2.names("nodes") - nodes
    assert level2.chat(WORKSPACE, "What is a GPU?")

    level2.kubectl("delete", "-f", str(EXAMPLE), f"--timeout={GONE_SECONDS}s")

    eventually(lambda: level2.names("machines"), set(), seconds=GONE_SECONDS)
    eventually(lambda: level2.names("nodes"), nodes, seconds=GONE_SECONDS)
    eventually(level2.pools, pools, seconds=GONE_SECONDS)
