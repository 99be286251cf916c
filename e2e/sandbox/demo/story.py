"""The demo from curtain to curtain: up, apply, follow, ask, fine-tune, delete, down.

Invariant: however it ends, by success, failure or Ctrl-C, the sandbox that it brought up is taken
down again; one that was there before is left alone and the demo refuses to start.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from rich.console import Console

from controlkit.kube.client import KubeClient
from controlkit.kube.objects import Key
from sandbox.aks.client import ControlClient
from sandbox.cluster.state import State
from sandbox.demo import tuning
from sandbox.demo.display import Display
from sandbox.demo.follow import DemoError, until_gone, until_ready
from sandbox.demo.shell import chat, service_address, shown

EXAMPLE = Path("examples/inference/kaito_workspace_phi_3.yaml")
PROMPT = "Tell me what a Workspace is"
SPEED = 20
READY_SECONDS = 600.0
GONE_SECONDS = 180.0
HONESTY = (
    "The model is a tiny one with random weights (1.6 MB), so its answers are noise; the server, "
    "the download, the pod and the path to it are real, and so is any training, on the CPU. There "
    "is no GPU and no Azure here: "
    f"the node's GPU is only advertised, and the emulated AKS runs {SPEED} times faster than life."
)


@dataclass(frozen=True)
class Stage:
    """Where the demo plays.

    Attributes:
        repository: the checkout.
        folder: the sandbox's folder.
        level: 1 for processes, 2 for real nodes.
        acts: 2 with fine-tuning, which needs level 2.
    """

    repository: Path
    folder: Path
    level: int
    acts: int = 1

    def environment(self) -> dict[str, str]:
        """The environment that `. .sandbox/env` would give a shell."""
        given = dict(os.environ)
        for line in (self.folder / "env").read_text().splitlines():
            name, _, value = line.removeprefix("export ").partition("=")
            given[name] = value.strip("'\"").replace("$PATH", os.environ.get("PATH", ""))
        return given


async def play(stage: Stage, console: Console) -> None:
    """Run the demo.

    Raises:
        DemoError: a step failed; the text says which and why.
    """
    if State.load(stage.folder) is not None:
        raise DemoError("a sandbox is up already: take it down first with `make sandbox-down`")
    async with _sandbox(stage, console):
        environment = stage.environment()
        kubeconfig = Path(environment["KUBECONFIG"])
        async with await KubeClient.connect(
            user_agent="gpu-workspaces-demo", field_manager="demo", kubeconfig=kubeconfig
        ) as client:
            await _life(stage, console, client, environment)


async def _life(
    stage: Stage, console: Console, client: KubeClient, environment: Mapping[str, str]
) -> None:
    key = await _serve(stage, console, client, environment)
    made = [key]
    if stage.acts > 1:
        state = State.load(stage.folder)
        assert state is not None
        made += await tuning.play(console, client, environment, state.endpoints, base=key)
    console.print(f"[dim]{HONESTY}[/]")

    console.rule("all is deleted")
    names = [each.name for each in made]
    await shown(console, environment, "kubectl", "delete", "workspace", *names, "--timeout=180s")
    seconds = 0.0
    for each in made:
        seconds += await until_gone(client, each, seconds=GONE_SECONDS)
    await _no_pool_left(environment)
    console.print(
        f"Workspaces, Machines, agent pools and nodes are gone (checked {seconds:.1f} s later)"
    )


async def _serve(
    stage: Stage, console: Console, client: KubeClient, environment: Mapping[str, str]
) -> Key:
    manifest = yaml.safe_load((stage.repository / EXAMPLE).read_text())
    key = Key(manifest["metadata"].get("namespace", "default"), manifest["metadata"]["name"])

    console.rule("a person applies one object")
    await shown(console, environment, "kubectl", "apply", "-f", str(EXAMPLE))
    with Display(console) as display:
        seen, durations = await until_ready(client, key, display, seconds=READY_SECONDS)
    console.print(f"[bold]a model is served {sum(durations):.1f} s after `kubectl apply`[/]")

    console.rule("what kubectl says")
    await shown(console, environment, "kubectl", "get", "workspace", key.name)
    await shown(console, environment, "kubectl", "get", "service", key.name)

    console.rule("the model answers")
    if stage.level == 2:
        address = await service_address(environment, key.name)
    else:  # where no host routes ClusterIPs
        address = f"{next(pod.status.pod_ip for pod in seen.pods if pod.ready)}:5000"
        console.print("level 1 routes no ClusterIP, so the pod itself is asked")
    await chat(console, environment, address, body=json.dumps({"prompt": PROMPT}))
    return key


async def _no_pool_left(environment: Mapping[str, str]) -> None:
    """Ask the emulated AKS itself, since the cluster's word could be wrong."""
    async with ControlClient(
        environment["EMULATOR_URL"], Path(environment["EMULATOR_CA"])
    ) as azure:
        left = await azure.pools()
    if left:
        raise DemoError(f"agent pools are left, and would be paid for: {', '.join(sorted(left))}")


@asynccontextmanager
async def _sandbox(stage: Stage, console: Console) -> AsyncIterator[None]:
    """The sandbox at the stage's level, up inside and down after."""
    nodes = "kubelet" if stage.level == 2 else "process"
    console.rule(f"a sandbox, level {stage.level}")
    try:
        await _up("--level", str(stage.level), "--nodes", nodes, "--speed", str(SPEED))
        yield
    finally:
        console.rule("the curtain falls")
        await _down()


async def _up(*arguments: str) -> None:
    process = await _verb("up", *arguments)
    try:
        status = await process.wait()
    except asyncio.CancelledError:
        process.send_signal(signal.SIGINT)  # it cleans up after itself
        await process.wait()
        raise
    if status:
        raise DemoError(f"`python -m sandbox up` ended with exit status {status}")


async def _down() -> None:
    """Take the sandbox down, to the end, however often the demo is told to stop meanwhile."""
    process = await _verb("down")
    stopped = False
    while process.returncode is None:
        try:
            await process.wait()
        except asyncio.CancelledError:
            stopped = True
    if process.returncode:
        raise DemoError(f"`python -m sandbox down` ended with exit status {process.returncode}")
    if stopped:
        raise asyncio.CancelledError


async def _verb(verb: str, *arguments: str) -> asyncio.subprocess.Process:
    # In a session of its own, so that Ctrl-C at the terminal reaches only the demo.
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sandbox", verb, *arguments), start_new_session=True
    )
