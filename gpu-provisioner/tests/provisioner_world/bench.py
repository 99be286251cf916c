"""A test's view of the world: claims, nodes, pools, and what to wait for.

Invariant: a test asserts on what the API server and Azure hold, not on what the program says.
"""

import itertools
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx

from controlkit.errors import ControlError, NotFound
from controlkit.kube.client import KubeClient
from controlkit.kube.objects import Key, Resource
from controlkit_testing import eventually
from gpuapis.core import Node, Pod
from gpuapis.labels import AGENT_POOL, INSTANCE_TYPE, TERMINATION_FINALIZER
from gpuapis.machine import Machine
from gpuapis.nodeclaim import NodeClaim
from provisioner_world.processes import AzureProcess, ProvisionerProcess
from sandbox.aks.client import ControlClient

Kind = Literal["machine", "nodeclaim"]

VIEWS: dict[Kind, type[Machine] | type[NodeClaim]] = {"machine": Machine, "nodeclaim": NodeClaim}
EVENTS = Resource("", "v1", "events", "Event")
BUDGETS = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
SIZE = "Standard_NC6s_v3"

_numbers = itertools.count(1)


@dataclass
class Bench:
    """One test's hands and eyes."""

    client: KubeClient
    azure: AzureProcess
    control: ControlClient
    provisioner: ProvisionerProcess
    namespace: str
    made: list[tuple[Kind, str]] = field(default_factory=list)

    async def create(self, kind: Kind = "machine", name: str = "", **spec: Any) -> str:
        """Creates a claim for one GPU; returns its name.

        Args:
            kind: which API.
            name: else a fresh one.
            spec: replaces parts of the spec; `labels` and `annotations` go to the metadata.
        """
        name = name or f"t{os.getpid() % 100_000}x{next(_numbers)}"
        metadata = {
            "name": name,
            "labels": {"kaito.sh/workspace": "phi-3", **spec.pop("labels", {})},
            "annotations": spec.pop("annotations", {}),
        }
        usual: dict[str, Any] = {
            "requirements": [{"key": INSTANCE_TYPE, "operator": "In", "values": [SIZE]}],
            "resources": {"requests": {"storage": "120Gi", "nvidia.com/gpu": "1"}},
            "taints": [{"key": "sku", "value": "gpu", "effect": "NoSchedule"}],
        }
        if kind == "nodeclaim":
            reference = {"group": "kaito.sh", "kind": "KaitoNodeClass", "name": "default"}
            usual["nodeClassRef"] = reference
        manifest = {"metadata": metadata, "spec": usual | spec}
        await self.client.create(VIEWS[kind].RESOURCE, manifest)
        self.made.append((kind, name))
        return name

    async def claim(self, name: str, kind: Kind = "machine") -> Machine | NodeClaim | None:
        """The claim as it is now."""
        return await self.client.get(VIEWS[kind], Key("", name))

    async def delete(self, name: str, kind: Kind = "machine") -> None:
        """Asks for the claim's deletion."""
        await self.client.delete(VIEWS[kind].RESOURCE, Key("", name))

    async def condition(
        self, name: str, aspect: str, kind: Kind = "machine"
    ) -> tuple[str, str, str]:
        """Status, reason and message of a condition, named without dialect; "" for none."""
        claim = await self.claim(name, kind)
        for each in claim.status.conditions if claim else ():
            if each.type.removeprefix("Machine") == aspect:
                return each.status, each.reason or "", each.message or ""
        return "", "", ""

    async def tells(
        self,
        name: str,
        reason: str,
        aspect: str = "Launched",
        kind: Kind = "machine",
        seconds: float = 20.0,
    ) -> str:
        """Waits until a condition has that reason; returns its message."""

        async def look() -> str | None:
            _, told, message = await self.condition(name, aspect, kind)
            return message if told == reason else None

        return await eventually(look, lambda: self.story(name, f"{aspect} is {reason}"), seconds)

    async def becomes(
        self, name: str, aspect: str = "Ready", kind: Kind = "machine", seconds: float = 30.0
    ) -> None:
        """Waits until a condition is True."""

        async def look() -> bool:
            return (await self.condition(name, aspect, kind))[0] == "True"

        await eventually(look, lambda: self.story(name, f"{aspect} is True"), seconds)

    async def is_gone(self, name: str, kind: Kind = "machine", seconds: float = 40.0) -> None:
        """Waits until claim, pool and node are all gone; and they go in that order reversed."""

        async def look() -> bool:
            if await self.claim(name, kind) is not None:
                return False
            # The claim is held until everything else is gone.
            assert name not in await self.control.pools(), await self.story(name, "no pool is left")
            return True

        await eventually(look, lambda: self.story(name, "the claim is gone"), seconds)
        await eventually(
            lambda: self._no_nodes(name), lambda: self.story(name, "no node is left"), 10
        )

    async def _no_nodes(self, name: str) -> bool:
        return not await self.nodes(name)

    async def nodes(self, name: str) -> list[Node]:
        """The nodes of the claim's pool."""
        return (await self.client.list(Node, label_selector=f"{AGENT_POOL}={name}")).items

    async def node(self, name: str) -> Node:
        """Waits for the one node of the claim's pool."""

        async def look() -> Node | None:
            return next(iter(await self.nodes(name)), None)

        return await eventually(look, lambda: self.story(name, "there is a node"))

    async def phase(self, name: str, phase: str, seconds: float = 20.0) -> None:
        """Waits until Azure's pool is in a phase; "" for gone."""

        async def look() -> bool:
            pool = (await self.control.pools()).get(name)
            return (pool["properties"]["provisioningState"] if pool else "") == phase

        await eventually(look, lambda: self.story(name, f"the pool is {phase or 'gone'}"), seconds)

    async def puts(self, name: str) -> list[int]:
        """The answers to the requests to make the pool, in order; 0 where there was none.

        Without those for a token that the reset before this test has revoked.
        """
        calls = await self.control.calls("PUT", pool=name)
        statuses = [int(call.get("status") or 0) for call in calls]
        return [status for status in statuses if status != 401]

    async def events(self, name: str) -> list[dict[str, Any]]:
        """The Events about the claim."""
        path = f"{EVENTS.path('default')}?fieldSelector=involvedObject.name={name}"
        found = await self.client.read(path)
        return list(found["items"])

    async def upgrade(self, name: str) -> None:
        """Has AKS replace the VM of a pool by a newer image, as its operator would."""
        no_id = "00000000-0000-0000-0000-000000000000"
        trusted = ssl.create_default_context(cafile=self.azure.ca)
        async with httpx.AsyncClient(base_url=self.azure.url, verify=trusted) as http:
            form = {
                "grant_type": "client_credentials",
                "client_id": no_id,
                "scope": f"{self.azure.url}/.default",
                "client_assertion": "an-assertion",
                "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            }
            token = (await http.post(f"/{no_id}/oauth2/v2.0/token", data=form)).json()
            answer = await http.post(
                f"/subscriptions/{no_id}/resourceGroups/gpu-workspaces/providers"
                f"/Microsoft.ContainerService/managedClusters/sandbox/agentPools/{name}"
                "/upgradeNodeImageVersion?api-version=2026-08-01",
                headers={"Authorization": f"Bearer {token['access_token']}"},
            )
            assert answer.is_success, answer.text

    async def run_pod(self, node: Node, name: str = "model-0", **labels: str) -> Key:
        """Puts a pod on the node that ends as soon as it is asked to."""
        manifest = {
            "metadata": {"name": name, "namespace": self.namespace, "labels": labels},
            "spec": {
                "nodeName": node.metadata.name,
                "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "model", "image": "example.com/model"}],
            },
        }
        key = Key(self.namespace, name)
        await self.client.create(Pod.RESOURCE, manifest)
        # A pod that does not run is not protected by its budget.
        running = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        await self.client.merge_patch(Pod.RESOURCE, key, {"status": running}, subresource="status")
        return key

    async def story(self, name: str, wanted: str) -> str:
        """What a person would look at to find out why something did not happen."""
        found: list[object] = []
        for view in VIEWS.values():
            claim = await self.client.get(view, Key("", name))
            if claim is not None:
                found += [claim.metadata, *claim.status.conditions]
        pool = (await self.control.pools()).get(name)
        calls = [
            (call["verb"], call["pool"], call.get("status"))
            for call in await self.control.calls(pool=name)
        ]
        nodes = [(n.metadata.name, n.metadata.finalizers, n.ready) for n in await self.nodes(name)]
        lines = [wanted, *map(str, found), f"pool {pool}", f"calls {calls}", f"nodes {nodes}"]
        return "\n  ".join([*lines, self.provisioner.log()])

    async def clean(self) -> None:
        """Leaves nothing to the next test, whether or not the provisioner runs."""
        await self.control.clear_faults()
        for view in VIEWS.values():
            for claim in (await self.client.list(view)).items:
                await self.client.delete(view.RESOURCE, claim.key)
                await self._let_go(view.RESOURCE, claim.key)
        await self.control.reset()
        for node in (await self.client.list(Node)).items:
            await self.client.delete(Node.RESOURCE, node.key)
            await self._let_go(Node.RESOURCE, node.key)

    async def _let_go(self, resource: Resource, key: Key) -> None:
        patch: Mapping[str, Any] = {"metadata": {"finalizers": None}}
        try:
            await self.client.merge_patch(resource, key, patch)
        except NotFound:
            return

    async def strip(self, name: str, kind: Kind = "machine") -> None:
        """Takes our finalizer off a claim, as an impatient person would."""
        claim = await self.claim(name, kind)
        assert claim is not None
        assert TERMINATION_FINALIZER in claim.metadata.finalizers
        await self._let_go(VIEWS[kind].RESOURCE, claim.key)


__all__ = ["BUDGETS", "SIZE", "VIEWS", "Bench", "ControlError", "Kind"]
