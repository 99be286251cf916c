"""The whole road on real nodes: from `kubectl apply` to an answer, and back to a clean host."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from sandbox.aks.client import ControlClient
from sandbox.cluster.state import REPOSITORY, State
from sandbox.nodes.kubelet import obstacles

pytestmark = pytest.mark.skipif(bool(obstacles()), reason="; ".join(obstacles()))

EXAMPLE = REPOSITORY / "examples" / "inference" / "kaito_workspace_phi_3.yaml"
WORKSPACE = "workspace-phi-3-mini"
READY_SECONDS = 240
GONE_SECONDS = 120


@dataclass(frozen=True)
class Sandbox:
    """A sandbox that is used as a person uses it, from a shell that read its `env` file."""

    folder: Path

    def verb(self, *arguments: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "sandbox", *arguments],
            env=os.environ | {"SANDBOX_DIR": str(self.folder)},
            check=False,
        )
        assert done.returncode == 0

    def kubectl(self, *arguments: str) -> str:
        shell = ["sh", "-c", f'. "{self.folder}/env"; exec kubectl "$@"', "sh", *arguments]
        done = subprocess.run(shell, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def names(self, kind: str, *arguments: str) -> set[str]:
        return set(self.kubectl("get", kind, "--output=name", *arguments).split())

    def pools(self) -> set[str]:
        """The agent pools by the emulated AKS's own account."""
        state = State.load(self.folder)
        assert state is not None
        return set(asyncio.run(_pools(state.endpoints["emulator"], self.folder / "pki" / "ca.crt")))


async def _pools(url: str, ca: Path) -> dict[str, Any]:
    async with ControlClient(url, ca) as azure:
        return await azure.pools()


@pytest.fixture
def sandbox(
    tmp_path: Path, host_traces: Callable[[Path], dict[str, set[str]]]
) -> Iterator[Sandbox]:
    """A sandbox of level 2; when the test is done, it is taken down and nothing of it is left."""
    before = host_traces(tmp_path)
    sandbox = Sandbox(tmp_path)
    try:
        sandbox.verb("up", "--level=2", "--speed=50")
        yield sandbox
    finally:
        sandbox.verb("down")
    assert host_traces(tmp_path) == before


def test_a_workspace_becomes_a_served_model_on_a_real_node_and_goes_without_a_trace(
    sandbox: Sandbox,
) -> None:
    nodes = sandbox.names("nodes")
    pools = sandbox.pools()

    sandbox.kubectl("apply", "-f", str(EXAMPLE))
    ready = "--for=condition=WorkspaceReady"
    sandbox.kubectl("wait", ready, f"workspace/{WORKSPACE}", f"--timeout={READY_SECONDS}s")

    assert len(sandbox.names("machines")) == 1
    assert len(sandbox.names("nodes") - nodes) == 1
    (pod,) = json.loads(sandbox.kubectl("get", "pods", "--output=json"))["items"]
    assert f"node/{pod['spec']['nodeName']}" in sandbox.names("nodes") - nodes
    assert _chat(sandbox, "What is a GPU?")

    sandbox.kubectl("delete", "-f", str(EXAMPLE), f"--timeout={GONE_SECONDS}s")

    _eventually(lambda: sandbox.names("machines"), set())
    _eventually(lambda: sandbox.names("nodes"), nodes)
    _eventually(sandbox.pools, pools)


def _chat(sandbox: Sandbox, prompt: str) -> str:
    """Asks the model by its Service's address, from this host."""
    address = sandbox.kubectl("get", "service", WORKSPACE, "--output=jsonpath={.spec.clusterIP}")
    answer = httpx.post(
        f"http://{address}/chat", json={"prompt": prompt}, timeout=60, trust_env=False
    )
    result: str = answer.raise_for_status().json()["Result"]
    return result


def _eventually(look: Callable[[], object], expected: object) -> None:
    deadline = time.monotonic() + GONE_SECONDS
    while (found := look()) != expected and time.monotonic() < deadline:
        time.sleep(0.5)
    assert found == expected
