"""A running emulator, the real Azure client pointed at it, and the control API beside them.

Invariant: everything that a `Starter` starts has ended when its context has, and a second start on
the same starter finds the state, the certificates and the address of the first.

It needs the Azure SDK, which the gpu-provisioner of this workspace brings along.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError
from azure.core.polling import AsyncLROPoller
from azure.core.rest import AsyncHttpResponse
from azure.identity.aio import WorkloadIdentityCredential
from azure.mgmt.containerservice.aio import ContainerServiceClient
from azure.mgmt.containerservice.models import AgentPool

from sandbox.aks.client import ControlClient
from sandbox.aks.emulator import Emulator
from sandbox.aks.pki import Pki, ensure_pki
from sandbox.aks.settings import Cluster, Settings
from sandbox.nodes.driver import NodeDriver

GPU_SIZE = "Standard_NC6s_v3"
SETTLE_SECONDS = 10.0


@dataclass
class Bench:
    """One emulator with its clients."""

    emulator: Emulator
    control: ControlClient
    azure: ContainerServiceClient

    @property
    def scope(self) -> tuple[str, str]:
        """Resource group and cluster, as the client wants them."""
        return self.emulator.cluster.resource_group, self.emulator.cluster.name

    async def create(
        self, name: str, *, etag: str = "", if_missing: bool = False, **properties: Any
    ) -> AsyncLROPoller[AgentPool]:
        """Begins a PUT; returns its poller."""
        body = {"count": 1, "vmSize": GPU_SIZE, "mode": "User", **properties}
        conditions: dict[str, Any] = {}
        if if_missing:
            conditions = {"match_condition": MatchConditions.IfMissing}
        if etag:
            conditions = {"etag": etag, "match_condition": MatchConditions.IfNotModified}
        return await self.azure.agent_pools.begin_create_or_update(
            *self.scope, name, AgentPool({"properties": body}), **conditions
        )

    async def resumed(self, name: str, token: str) -> AsyncLROPoller[AgentPool]:
        """Takes up the operation of a continuation token."""
        return await self.azure.agent_pools.begin_create_or_update(
            *self.scope, name, AgentPool(), continuation_token=token
        )

    async def created(self, name: str, **properties: Any) -> AgentPool:
        """Creates a pool and waits until the operation has ended."""
        return await (await self.create(name, **properties)).result()

    async def refused(self, name: str, **properties: Any) -> HttpResponseError:
        """Begins a PUT that must be refused; returns the SDK's error."""
        try:
            await self.create(name, **properties)
        except HttpResponseError as error:
            return error
        raise AssertionError(f"the PUT of {name} was accepted")

    async def get(self, name: str) -> AgentPool:
        """Returns a pool."""
        return await self.azure.agent_pools.get(*self.scope, name)

    async def names(self) -> list[str]:
        """Returns the names of all pools, in the order of the list."""
        return [str(pool.name) async for pool in self.azure.agent_pools.list(*self.scope)]

    async def settled(
        self, *, nodes: int, joined: int | None = None, gpus: int | None = None
    ) -> list[dict[str, Any]]:
        """Waits until there are so many VMs, joined ones and ones with GPUs; returns the VMs."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            vms = await self.control.nodes()
            seen = {
                "nodes": (len(vms), nodes),
                "joined": (sum(vm["joinedAt"] is not None for vm in vms), joined),
                "gpus": (sum(vm["gpu"] for vm in vms), gpus),
            }
            wrong = {
                name: f"{present} instead of {wanted}"
                for name, (present, wanted) in seen.items()
                if wanted is not None and present != wanted
            }
            if not wrong:
                return vms
            assert time.monotonic() < deadline, f"after {SETTLE_SECONDS} s: {wrong}"
            await asyncio.sleep(0.01)

    async def idle(self) -> None:
        """Waits until no pool is in an operation and no VM is going."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            pools = (await self.control.pools()).values()
            busy = [pool["name"] for pool in pools if pool["operation"]]
            going = [vm["node"] for vm in await self.control.nodes() if vm["leaving"]]
            if not busy and not going:
                return
            assert time.monotonic() < deadline, f"in an operation: {busy}; going: {going}"
            await asyncio.sleep(0.01)

    async def delete(self, name: str) -> None:
        """Deletes a pool and waits until the operation has ended."""
        await (await self.azure.agent_pools.begin_delete(*self.scope, name)).result()


@dataclass
class Starter:
    """Starts emulators on one state folder, one after the other."""

    state: Path
    pki: Pki
    token_file: Path
    port: int = 0

    @classmethod
    def within(cls, folder: Path) -> Self:
        """Prepares a folder: certificates, and what a pod would find as its token."""
        token_file = folder / "token"
        token_file.write_text("an-assertion")
        return cls(folder / "state", ensure_pki(folder / "pki", ["127.0.0.1"]), token_file)

    @contextlib.asynccontextmanager
    async def __call__(
        self,
        driver: NodeDriver | None = None,
        cluster: Cluster | None = None,
        credential: dict[str, Any] | None = None,
        **settings: Any,
    ) -> AsyncIterator[Bench]:
        """Runs an emulator, 5,000 times as fast as Azure and unthrottled unless told otherwise."""
        behaviour = Settings.model_validate({"speed": 5000, "throttle": False, **settings})
        async with Emulator.start(
            self.state,
            cluster=cluster,
            settings=behaviour,
            driver=driver,
            port=self.port,
            pki=self.pki,
        ) as emulator:
            self.port = int(emulator.url.rsplit(":", 1)[1])  # a restart comes back there
            async with self.clients(emulator, credential) as bench:
                yield bench

    @contextlib.asynccontextmanager
    async def clients(
        self, emulator: Emulator, credential: dict[str, Any] | None = None
    ) -> AsyncIterator[Bench]:
        """Connects to an emulator that runs; `credential` changes what the client says it is."""
        async with (
            ControlClient(emulator.url, emulator.ca) as control,
            self._azure(emulator, credential or {}) as azure,
        ):
            yield Bench(emulator, control, azure)

    @contextlib.asynccontextmanager
    async def _azure(
        self, emulator: Emulator, changed: dict[str, Any]
    ) -> AsyncIterator[ContainerServiceClient]:
        identity = {
            "tenant_id": emulator.cluster.tenant,
            "client_id": emulator.cluster.client,
            "token_file_path": str(self.token_file),
            **changed,
        }
        async with (
            WorkloadIdentityCredential(
                **identity,
                authority=emulator.url,
                disable_instance_discovery=True,
                connection_verify=str(emulator.ca),
                retry_total=0,
            ) as credential,
            ContainerServiceClient(
                credential,
                emulator.cluster.subscription,
                base_url=emulator.url,
                credential_scopes=[f"{emulator.url}/.default"],
                connection_verify=str(emulator.ca),
                polling_interval=0,
                retry_total=0,
            ) as client,
        ):
            yield client


def status_and_code(error: HttpResponseError) -> tuple[int, str]:
    """Returns what a client decides by."""
    assert error.error is not None
    return int(error.status_code or 0), str(error.error.code)


def retry_after(error: HttpResponseError) -> str | None:
    """Returns the header that says how many seconds to wait, if there is one."""
    assert isinstance(error.response, AsyncHttpResponse)
    header: str | None = error.response.headers.get("Retry-After")
    return header
