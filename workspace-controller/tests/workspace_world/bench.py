"""What a test works with: a client, the world, and one namespace."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from controlkit.kube.client import KubeClient
from controlkit.kube.objects import Condition, Key, KubeObject
from controlkit_testing import eventually
from gpuapis import labels
from gpuapis.core import Pod
from gpuapis.machine import Machine
from gpuapis.nodeclaim import NodeClaim
from gpuapis.workspace import Workspace
from workspace_world.world import SIZE, World, make_node

T = TypeVar("T")
Object = TypeVar("Object", bound=KubeObject)


@dataclass
class Bench:
    """What a test works with: a client, the world, and one namespace."""

    client: KubeClient
    world: World
    namespace: str

    def manifest(self, name: str, **changes: Any) -> dict[str, Any]:
        manifest: dict[str, Any] = {
            "metadata": {"name": name, "namespace": self.namespace},
            "resource": {
                "instanceType": SIZE,
                "labelSelector": {"matchLabels": {"apps": name}},
            },
            "inference": {"preset": {"name": "phi-3-mini-128k-instruct"}},
        }
        return manifest | changes

    async def create(self, name: str, **changes: Any) -> Key:
        await self.client.create(Workspace.RESOURCE, self.manifest(name, **changes))
        return Key(self.namespace, name)

    def key(self, name: str) -> Key:
        return Key(self.namespace, name)

    async def eventually(self, look: Callable[[], Awaitable[T | None]], what: str) -> T:
        return await eventually(look, what)

    async def pause(self, seconds: float) -> None:
        """Time in which something must not happen."""
        await asyncio.sleep(seconds)

    async def make_node(self, name: str, marks: dict[str, str], *, gpus: int = 1) -> None:
        await make_node(self.client, name, marks, gpus=gpus)

    async def launched_claim(self, key: Key) -> Machine | NodeClaim:
        """The Workspace's only live claim, once its provisioner holds and has launched it."""

        async def look() -> Machine | NodeClaim | None:
            claim = await self.the_claim(key)
            return claim if claim.status.conditions else None

        return await eventually(look, f"the claim of {key} is launched")

    async def events(self, key: Key, kind: str) -> list[dict[str, Any]]:
        """The Events of a type about a Workspace."""
        found = await self.client.read(f"/api/v1/namespaces/{key.namespace}/events")
        mine = {"kind": Workspace.RESOURCE.kind, "name": key.name}
        return [
            each
            for each in found["items"]
            if each["type"] == kind and mine.items() <= each["involvedObject"].items()
        ]

    async def make_pod(self, name: str, key: Key, *, crash_code: int, last_words: str) -> None:
        """A pod of the Workspace whose container ends again and again."""
        marks = {labels.WORKSPACE: key.name}
        spec = {"containers": [{"name": key.name, "image": "example.com/x"}], "nodeName": "n"}
        manifest = {
            "metadata": {"name": name, "namespace": key.namespace, "labels": marks},
            "spec": spec,
        }
        await self.client.create(Pod.RESOURCE, manifest)
        ended = {"exitCode": crash_code, "reason": "Error", "message": last_words}
        container = {
            "name": key.name,
            "image": "example.com/x",
            "imageID": "",
            "ready": False,
            "restartCount": 4,
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
            "lastState": {"terminated": ended},
        }
        status = {"phase": "Running", "containerStatuses": [container]}
        await self.client.merge_patch(
            Pod.RESOURCE, Key(key.namespace, name), {"status": status}, subresource="status"
        )

    async def read(self, view: type[Object], key: Key) -> Object:
        """An object that must be there."""
        found = await self.client.get(view, key)
        assert found is not None, f"{view.RESOURCE.kind} {key} is not there"
        return found

    async def workspace(self, key: Key) -> Workspace:
        return await self.read(Workspace, key)

    async def exists(self, view: type[KubeObject], key: Key) -> bool:
        return await self.client.get(view, key) is not None

    async def the_claim(self, key: Key) -> Machine | NodeClaim:
        """The Workspace's only live claim, once there is one."""

        async def look() -> Machine | NodeClaim | None:
            live = [claim for claim in await self.claims(key) if not claim.deleting]
            return live[0] if len(live) == 1 else None

        return await eventually(look, f"one live claim of {key}")

    async def condition(
        self, key: Key, kind: str, status: str, reason: str = "", seconds: float = 15.0
    ) -> Condition:
        """The condition, once it has that status and reason."""
        last: list[str] = []

        async def look() -> Condition | None:
            found = await self.client.get(Workspace, key)
            conditions = found.status.conditions if found is not None else ()
            last[:] = [f"{c.type}={c.status} {c.reason}: {c.message}" for c in conditions]
            for each in conditions:
                if each.type == kind and each.status == status and reason in ("", each.reason):
                    return each
            return None

        def what() -> str:
            return "\n".join([f"{key} {kind}={status} {reason}; it says:", *last])

        return await eventually(look, what, seconds)

    async def claims(self, key: Key) -> list[Machine | NodeClaim]:
        selector = f"{labels.WORKSPACE}={key.name},{labels.WORKSPACE_NAMESPACE}={key.namespace}"
        machines = await self.client.list(Machine, label_selector=selector)
        nodeclaims = await self.client.list(NodeClaim, label_selector=selector)
        return [*machines.items, *nodeclaims.items]

    async def delete(self, key: Key) -> None:
        await self.client.delete(Workspace.RESOURCE, key)

    async def gone(self, key: Key) -> None:
        async def look() -> bool:
            return not await self.exists(Workspace, key)

        await eventually(look, f"{key} is gone")
