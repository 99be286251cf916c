"""What one behaviour has in hand: claims to make, and eyes for what becomes of them.

Invariant: claims of a trial have names of their own and carry its faults alone, so that trials go
on beside each other; what a trial made is gone when it ends, whatever the provisioner does.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from conformance.history import VIEWS, AnyClaim, Told, told
from conformance.suite import Differs, Kind
from conformance.world import NAMESPACE, World
from controlkit.errors import AlreadyExists, NotFound
from controlkit.kube.objects import Key, Resource
from gpuapis import labels
from gpuapis.core import Node, Pod
from sandbox.aks.client import ControlClient

T = TypeVar("T")

SIZE: Final = "Standard_NC6s_v3"
OWNER: Final = {labels.WORKSPACE: "conformance", labels.WORKSPACE_NAMESPACE: NAMESPACE}
TAINT: Final = {"key": "sku", "value": "gpu", "effect": "NoSchedule"}
HOLD: Final = {"key": "conformance/hold", "effect": "NoSchedule"}
GPU: Final = "nvidia.com/gpu"
BUDGETS: Final = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
EVENTS: Final = Resource("", "v1", "events", "Event")
PATIENCE: Final = 60.0
"""Seconds until something that has to happen counts as not happening; machines may be busy."""
LOOK_SECONDS: Final = 0.1

_numbers = itertools.count(1)


@dataclass
class Trial:
    """One behaviour, with claims of one API."""

    world: World
    kind: Kind
    made: dict[str, str] = field(default_factory=dict)
    """Claims by name, with their uids."""

    @property
    def control(self) -> ControlClient:
        """The emulated AKS, from behind."""
        return self.world.aks.control

    @property
    def resource(self) -> Resource:
        """The claim API."""
        return VIEWS[self.kind].RESOURCE

    def name(self) -> str:
        """Returns a name that no other trial has."""
        return f"cf{next(_numbers):05}"

    async def create(self, name: str = "", **changed: Any) -> str:
        """Creates a claim for one GPU; returns its name.

        Args:
            name: else a fresh one.
            changed: replaces parts of the spec; `labels`, `annotations` and `finalizers` go to
                the metadata.
        """
        name = name or self.name()
        metadata: dict[str, Any] = {
            "name": name,
            "labels": {**OWNER, **changed.pop("labels", {})},
            "annotations": changed.pop("annotations", {}),
            "finalizers": changed.pop("finalizers", []),
        }
        spec: dict[str, Any] = {
            "requirements": [instance_type(SIZE)],
            "resources": {"requests": {"storage": "120Gi", GPU: "1"}},
            "taints": [TAINT],
        }
        if self.kind == "nodeclaim":
            spec["nodeClassRef"] = dict(self.world.provisioner.node_class)
        made = await self.world.client.create(
            self.resource, {"metadata": metadata, "spec": spec | changed}
        )
        self.made[name] = made.uid
        return name

    async def claim(self, name: str) -> AnyClaim | None:
        """Returns the claim as it is now."""
        return await self.world.client.get(VIEWS[self.kind], Key("", name))

    def states(self, name: str) -> Sequence[AnyClaim]:
        """Returns all that the claim has been, in order."""
        return self.world.history.claims[name]

    async def condition(self, name: str, aspect: str) -> Told:
        """Returns a condition of the claim."""
        return told(await self.claim(name), aspect)

    async def delete(self, name: str) -> None:
        """Asks for the claim's deletion."""
        await self.world.client.delete(self.resource, Key("", name))

    async def nodes(self, name: str) -> list[Node]:
        """Returns the Nodes that stand for the claim, whoever makes them and however."""
        claim, uid = await self.claim(name), self.made.get(name)
        provider = claim.status.provider_id if claim else None
        return [
            node
            for node in (await self.world.client.list(Node)).items
            if node.metadata.labels.get(labels.AGENT_POOL) == name
            or any(owner.uid == uid for owner in node.metadata.owner_references)
            or (provider and node.spec.provider_id == provider)
        ]

    async def node(self, name: str) -> Node:
        """Waits for the one Node of the claim."""

        async def look() -> Node | None:
            nodes = await self.nodes(name)
            return nodes[0] if nodes else None

        return await self.until(look, f"{name} has a Node")

    async def machines(self, name: str) -> int:
        """Returns how many machines are paid for on behalf of the claim."""
        if not self.world.provisioner.aks:
            return len(await self.nodes(name))
        pool = (await self.control.pools()).get(name)
        return len(pool["instances"]) if pool else 0

    async def asked(self, name: str) -> list[int]:
        """Returns how AKS answered each request to make the claim's pool."""
        calls = await self.control.calls("PUT", pool=name)
        return [int(call.get("status") or 0) for call in calls]

    async def until(
        self, look: Callable[[], Awaitable[T | None]], what: str, seconds: float = PATIENCE
    ) -> T:
        """Returns what `look` finds as soon as it finds something.

        Raises:
            Differs: it does not within `seconds`.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        while not (found := await look()):
            if asyncio.get_running_loop().time() > deadline:
                raise Differs(f"not within {seconds:g} s: {what}. {await self.story()}")
            await asyncio.sleep(LOOK_SECONDS)
        return found

    async def becomes(
        self, name: str, aspect: str = "Ready", status: str = "True", seconds: float = PATIENCE
    ) -> None:
        """Waits until a condition of the claim has that status."""

        async def look() -> bool:
            return (await self.condition(name, aspect)).status == status

        await self.until(look, f"{name} has {aspect} {status}", seconds)

    async def says(
        self, name: str, reason: str, aspect: str = "Launched", seconds: float = PATIENCE
    ) -> Told:
        """Waits until a condition of the claim has that reason; returns it."""

        async def look() -> Told | None:
            found = await self.condition(name, aspect)
            return found if found.reason == reason else None

        return await self.until(look, f"{name} has {aspect} with the reason {reason}", seconds)

    async def stays(self, look: Callable[[], Awaitable[bool]], what: str, seconds: float) -> None:
        """Looks for so long whether something remains as it is.

        Raises:
            Differs: it did not.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < deadline:
            if not await look():
                raise Differs(f"it did not stay so: {what}. {await self.story()}")
            await asyncio.sleep(0.1)

    async def is_gone(self, name: str, seconds: float = 60.0) -> None:
        """Waits until the claim, its machines and its Nodes are gone; the claim is the last.

        Raises:
            Differs: something is left, or the claim went before its machine.
        """

        async def look() -> bool:
            machines = await self.machines(name)
            if await self.claim(name) is not None:
                return False
            if machines and await self.machines(name):
                raise Differs(f"claim {name} went while its machine was still there")
            return True

        await self.until(look, f"claim {name} is gone", seconds)

        async def none_left() -> bool:
            return not await self.nodes(name)

        await self.until(none_left, f"the Node of {name} is gone", 20)

    @asynccontextmanager
    async def held(self, **changed: Any) -> AsyncIterator[tuple[str, Node]]:
        """Makes a claim that a startup taint keeps from being initialized, until the end."""
        name = await self.create(startupTaints=[HOLD], **changed)
        await self.becomes(name, "Registered")
        yield name, await self.node(name)
        await self.release(name)

    async def release(self, name: str) -> None:
        """Takes the startup taint off the claim's Node, as the daemon would that it waits for."""
        node = await self.node(name)
        left = [taint.manifest() for taint in node.spec.taints if taint.key != HOLD["key"]]
        await self.change(node, {"spec": {"taints": left}})

    async def change(self, node: Node, patch: Mapping[str, Any], *, subresource: str = "") -> None:
        """Changes a Node, as others in the cluster do."""
        await self.world.client.merge_patch(Node.RESOURCE, node.key, patch, subresource=subresource)

    async def set_ready(self, node: Node, status: str) -> None:
        """Makes a Node's kubelet say that it is ready, or that it is not."""
        condition = {
            "type": "Ready",
            "status": status,
            "reason": "Conformance",
            "message": "set by the suite",
        }
        await self.change(node, {"status": {"conditions": [condition]}}, subresource="status")

    async def run_pod(self, node: Node, name: str, **marks: str) -> Key:
        """Puts a pod on a Node that ends when it is asked to."""
        manifest = {
            "metadata": {"name": name, "namespace": NAMESPACE, "labels": marks},
            "spec": {
                "nodeName": node.metadata.name,
                "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "model", "image": "example.com/model"}],
                "automountServiceAccountToken": False,
            },
        }
        await self.world.client.create(Pod.RESOURCE, manifest)
        return Key(NAMESPACE, name)

    async def protect(self, name: str) -> Key:
        """Makes a disruption budget that allows none of the pods labelled `app=name` to go."""
        budget = {
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": name}}},
        }
        await self.world.client.create(BUDGETS, budget)
        return Key(NAMESPACE, name)

    async def events(self, name: str) -> list[dict[str, Any]]:
        """Returns the Events about the claim."""
        path = f"{EVENTS.path()}?fieldSelector=involvedObject.name={name}"
        found = await self.world.client.read(path)
        return list(found["items"])

    async def story(self) -> str:
        """Returns what a person would look at who asks why something did not happen."""
        lines = []
        for name in list(self.made)[:3]:
            claim = await self.claim(name)
            said = [
                f"{each.type}={each.status} {each.reason or ''} {(each.message or '')[:160]}".strip()
                for each in (claim.status.conditions if claim else ())
            ]
            nodes = [node.metadata.name for node in await self.nodes(name)]
            lines.append(f"{name}: {'; '.join(said) or 'no conditions'}; Nodes: {nodes or 'none'}")
        return " | ".join(lines)

    async def clean(self, *, patience: float = 15.0) -> None:
        """Leaves nothing behind: what is not gone in time is taken away by force."""
        for name in self.made:
            await self.delete(name)
        deadline = asyncio.get_running_loop().time() + patience
        left = set(self.made)
        while left and asyncio.get_running_loop().time() < deadline:
            left = {name for name in left if await self.claim(name) is not None}
            await asyncio.sleep(0.1)
        for name in left:
            nodes = await self.nodes(name)
            await self._let_go(self.resource, Key("", name))
            for node in nodes:
                await self.world.client.delete(Node.RESOURCE, node.key)
                await self._let_go(Node.RESOURCE, node.key)
        for name in set(self.made) & set(await self.control.pools()):
            await self.control.remove_pool(name)
        self.made.clear()

    async def _let_go(self, resource: Resource, key: Key) -> None:
        patch = {"metadata": {"finalizers": None}}
        try:
            await self.world.client.merge_patch(resource, key, patch)
        except (NotFound, AlreadyExists):
            return


def instance_type(*sizes: str, operator: str = "In") -> dict[str, Any]:
    """Returns a requirement on the VM size."""
    return {
        "key": labels.INSTANCE_TYPE,
        "operator": operator,
        **({"values": list(sizes)} if sizes else {}),
    }


def require(holds: bool, otherwise: str) -> None:
    """Makes it a difference when something does not hold.

    Raises:
        Differs: with the text.
    """
    if not holds:
        raise Differs(otherwise)
