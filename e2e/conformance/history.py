"""What claims and Nodes have looked like, one state after the other, as a watch shows them.

Invariant: every state that the API server told of is kept in its order, so a behaviour can speak of
what was never the case.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Self

from conformance.suite import Kind
from controlkit.cache import Cache
from controlkit.kube.client import KubeClient
from controlkit.kube.reflector import Reflector
from gpuapis.core import Node
from gpuapis.machine import Machine
from gpuapis.nodeclaim import NodeClaim

AnyClaim = Machine | NodeClaim
VIEWS: Final[dict[Kind, type[Machine] | type[NodeClaim]]] = {
    "machine": Machine,
    "nodeclaim": NodeClaim,
}


@dataclass(frozen=True)
class Told:
    """One condition of a claim, named without its dialect."""

    status: str = ""
    reason: str = ""
    message: str = ""


def told(claim: AnyClaim | None, aspect: str) -> Told:
    """Returns a condition of a claim, empty when it is not there."""
    for each in claim.status.conditions if claim else ():
        if each.type.removeprefix("Machine") == aspect:
            return Told(each.status, each.reason or "", each.message or "")
    return Told()


@dataclass
class History:
    """Follows claims and Nodes."""

    claims: defaultdict[str, list[AnyClaim]] = field(default_factory=lambda: defaultdict(list))
    """By name, all states of a claim; its end adds none."""
    nodes: defaultdict[str, list[Node]] = field(default_factory=lambda: defaultdict(list))
    """By name, all states of a Node."""

    @classmethod
    @asynccontextmanager
    async def following(cls, client: KubeClient, kinds: Iterable[Kind]) -> AsyncIterator[Self]:
        """Follows them for as long as the context lasts."""
        history = cls()
        nodes: Cache[Node] = Cache(Node)
        nodes.subscribe(history._node)
        reflectors: list[Reflector[Any]] = [Reflector(client, nodes)]
        for kind in kinds:
            claims: Cache[Any] = Cache(VIEWS[kind])
            claims.subscribe(history._claim)
            reflectors.append(Reflector(client, claims, optional=True, probe=0.5))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(reflector.run()) for reflector in reflectors]
            for reflector in reflectors:
                await reflector.cache.synced.wait()
            yield history
            for task in tasks:
                task.cancel()

    def _claim(self, _old: AnyClaim | None, new: AnyClaim | None) -> None:
        if new is not None:
            self.claims[new.metadata.name].append(new)

    def _node(self, _old: Node | None, new: Node | None) -> None:
        if new is not None:
            self.nodes[new.metadata.name].append(new)
