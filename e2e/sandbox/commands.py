"""A sandbox that is used as a person uses it: by commands, from a shell that has read its `env` file."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from sandbox.aks.client import ControlClient
from sandbox.cluster.state import State

LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class Sandbox:
    """The sandbox in a folder of its own."""

    folder: Path

    def verb(self, *arguments: str) -> None:
        """Runs `python -m sandbox` with these arguments; AssertionError if it fails."""
        done = subprocess.run(
            [sys.executable, "-m", "sandbox", *arguments],
            env=os.environ | {"SANDBOX_DIR": str(self.folder)},
            check=False,
        )
        assert done.returncode == 0

    def kubectl(self, *arguments: str, given: object = None) -> str:
        """Runs kubectl, with `given` as JSON on its input; AssertionError if it fails."""
        shell = ["sh", "-c", f'. "{self.folder}/env"; exec kubectl "$@"', "sh", *arguments]
        text = json.dumps(given)
        done = subprocess.run(shell, input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def apply(self, *manifests: dict[str, Any]) -> None:
        """Applies manifests, in order."""
        items = {"apiVersion": "v1", "kind": "List", "items": manifests}
        self.kubectl("apply", "-f", "-", given=items)

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """An object as it is now."""
        found: dict[str, Any] = json.loads(self.kubectl("get", kind, name, "--output=json"))
        return found

    def names(self, kind: str, *arguments: str) -> set[str]:
        """The names of all objects of a kind, as KIND/NAME."""
        return set(self.kubectl("get", kind, "--output=name", *arguments).split())

    def until_ready(self, workspace: str, *, seconds: int) -> None:
        """Waits for a Workspace to be ready; AssertionError with its conditions if it is not."""
        ready = "--for=condition=WorkspaceReady"
        try:
            self.kubectl("wait", ready, f"workspace/{workspace}", f"--timeout={seconds}s")
        except AssertionError as error:
            described = self.kubectl("describe", f"workspace/{workspace}")
            raise AssertionError(f"{error}\n{described}") from error

    def chat(self, workspace: str, prompt: str, **generate: object) -> str:
        """Asks a model by its Service's address, from this host."""
        service = self.get("service", workspace)
        answer = httpx.post(
            f"http://{service['spec']['clusterIP']}/chat",
            json={"prompt": prompt, "generate_kwargs": generate},
            timeout=60,
            trust_env=False,
        )
        result: str = answer.raise_for_status().json()["Result"]
        return result

    def endpoint(self, name: str) -> str:
        """The URL at which a part of the sandbox answers."""
        state = State.load(self.folder)
        assert state is not None
        return state.endpoints[name]

    def pools(self) -> set[str]:
        """The agent pools by the emulated AKS's own account."""
        return set(asyncio.run(_pools(self.endpoint("emulator"), self.folder / "pki" / "ca.crt")))


def eventually(look: Callable[[], object], expected: object, *, seconds: float) -> None:
    """Looks until it sees what is expected; AssertionError with what it saw last."""
    deadline = time.monotonic() + seconds
    while (found := look()) != expected and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
    assert found == expected


async def _pools(url: str, ca: Path) -> dict[str, Any]:
    async with ControlClient(url, ca) as azure:
        return await azure.pools()
