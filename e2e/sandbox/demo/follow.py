"""Follows one Workspace through its life by reading the cluster a few times a second.

Invariant: every wait ends, with the Workspace's own explanation when it ends badly.
"""

import asyncio
import time

from controlkit.kube.client import KubeClient
from controlkit.kube.objects import Key
from gpuapis import labels
from gpuapis.core import Node, Pod
from gpuapis.machine import Machine
from gpuapis.nodeclaim import NodeClaim
from gpuapis.workspace import Workspace
from sandbox.demo.display import Display
from sandbox.demo.phases import Claim, Seen, explanation, failed, reached
from sandbox.errors import SandboxError

POLL_SECONDS = 0.25


class DemoError(SandboxError):
    """The demo cannot go on; the text says why in one line."""


async def look(client: KubeClient, key: Key) -> Seen:
    """Read everything that belongs to the Workspace at `key`, once."""
    mine = f"{labels.WORKSPACE}={key.name},{labels.WORKSPACE_NAMESPACE}={key.namespace}"
    claims: list[Claim] = []
    if await client.serves(Machine.RESOURCE):
        claims += (await client.list(Machine, label_selector=mine)).items
    if await client.serves(NodeClaim.RESOURCE):
        claims += (await client.list(NodeClaim, label_selector=mine)).items
    nodes = await client.list(Node, label_selector=mine)
    pods = await client.list(
        Pod, namespace=key.namespace, label_selector=f"{labels.WORKSPACE}={key.name}"
    )
    return Seen(
        workspace=await client.get(Workspace, key),
        claims=tuple(claims),
        nodes=tuple(nodes.items),
        pods=tuple(pods.items),
    )


async def until_ready(
    client: KubeClient, key: Key, display: Display, *, seconds: float
) -> tuple[Seen, list[float]]:
    """Wait until the Workspace is ready; return what was seen last and each step's seconds.

    Raises:
        DemoError: it was not ready in time; the text is the Workspace's own explanation.
    """
    durations: list[float] = []
    step_began = began = time.monotonic()
    while True:
        seen = await look(client, key)
        now = time.monotonic()
        for _ in range(len(durations), reached(seen)):
            durations.append(now - step_began)
            step_began = now
        display.show(durations, now - step_began, explanation(seen))
        if len(durations) == len(display.phases):
            return seen, durations
        if failed(seen):
            raise DemoError(f"the run has failed: {explanation(seen)}")
        if now - began > seconds:
            raise DemoError(
                f"not ready after {seconds:.0f} s, stuck before '{display.phases[len(durations)]}': "
                f"{explanation(seen)}"
            )
        await asyncio.sleep(POLL_SECONDS)


async def until_gone(client: KubeClient, key: Key, *, seconds: float) -> float:
    """Wait until the Workspace, its claims and its nodes are gone; return the seconds it took.

    Raises:
        DemoError: something is still there; the text names it.
    """
    began = time.monotonic()
    while True:
        seen = await look(client, key)
        left = [
            *(["the Workspace"] if seen.workspace else []),
            *(f"{claim.RESOURCE.kind} {claim.metadata.name}" for claim in seen.claims),
            *(f"Node {node.metadata.name}" for node in seen.nodes),
        ]
        if not left:
            return time.monotonic() - began
        if time.monotonic() - began > seconds:
            raise DemoError(f"still there {seconds:.0f} s after the deletion: {', '.join(left)}")
        await asyncio.sleep(POLL_SECONDS)
