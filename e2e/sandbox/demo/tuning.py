"""The second act: an adapter is tuned for the model, pushed, and changes what the model answers.

Invariant: the documented examples are applied as they are, but for the hosts of the data and of the
registry; the act fails unless the tuned model answers otherwise than the base, which still serves.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import yaml
from rich.console import Console

from controlkit.kube.client import KubeClient
from controlkit.kube.objects import Key
from sandbox.cluster.registry import PASSWORD, USER
from sandbox.demo.display import Display
from sandbox.demo.follow import DemoError, until_ready
from sandbox.demo.phases import TUNING_PHASES
from sandbox.demo.shell import chat, service_address, shown

TUNING = Path("examples/fine-tuning/workspace_tuning_phi_3.yaml")
TUNED = Path("examples/fine-tuning/workspace_inference_tuned.yaml")
SECRET = "tuning-registry"  # noqa: S105  (its name)
SECONDS = 600.0
GREEDY = {"do_sample": False, "max_new_tokens": 24}


async def play(
    console: Console,
    client: KubeClient,
    environment: Mapping[str, str],
    endpoints: Mapping[str, str],
    *,
    base: Key,
) -> list[Key]:
    """Tune, serve, compare with the model that serves at `base`; returns the Workspaces it made.

    Raises:
        DemoError: a step failed; the text says which and why.
    """
    console.rule("second act: a person fine-tunes that model")
    tuning = await _tune(console, client, environment, endpoints)
    console.rule("and serves the adapter")
    await shown(console, environment, "kubectl", "apply", "-f", str(TUNED))
    tuned = _key(TUNED)
    with Display(console) as display:
        await until_ready(client, tuned, display, seconds=SECONDS)
    console.rule("the base and the tuned model answer the same question")
    body = json.dumps({"prompt": "What is a GPU?", "generate_kwargs": GREEDY})
    answers = [
        await chat(console, environment, await service_address(environment, name), body=body)
        for name in (base.name, tuned.name)
    ]
    if answers[0] == answers[1]:
        raise DemoError("the tuned model answers as the base does: its adapter has no effect")
    return [tuning, tuned]


async def _tune(
    console: Console,
    client: KubeClient,
    environment: Mapping[str, str],
    endpoints: Mapping[str, str],
) -> Key:
    registry = urlsplit(endpoints["registry"]).netloc.rpartition("@")[2]
    await shown(
        console,
        environment,
        *("kubectl", "create", "secret", "docker-registry", SECRET),
        *(f"--docker-server={registry}", f"--docker-username={USER}"),
        f"--docker-password={PASSWORD}",
    )
    hosts = f"-e s,https://huggingface.co,{endpoints['hub']}, -e s,registry.example.com,{registry},"
    script = f"sed {hosts} {TUNING} | kubectl apply -f -"
    await shown(console, environment, "sh", "-c", script)
    key = _key(TUNING)
    with Display(console, TUNING_PHASES) as display:
        _, durations = await until_ready(client, key, display, seconds=SECONDS)
    console.print(f"[bold]an adapter is pushed {sum(durations):.1f} s after `kubectl apply`[/]")
    path = "jsonpath={.status.tuning.message}"
    await shown(console, environment, "kubectl", "get", "workspace", key.name, "-o", path)
    return key


def _key(example: Path) -> Key:
    metadata = yaml.safe_load(example.read_text())["metadata"]
    return Key(metadata.get("namespace", "default"), metadata["name"])
