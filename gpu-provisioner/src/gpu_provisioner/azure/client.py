"""The agent pools of one AKS cluster through Azure's SDK: the only file that imports it for calls.

Invariant: a call ends within its deadline and never polls, sleeps or retries inside; what comes out
is a `Pool` or an `AzureError`. Retries belong to the work queue, since those of the SDK multiply
with ours and sleep while they hold a worker.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self, TypeVar

from azure.core import AzureClouds, MatchConditions
from azure.core import exceptions as sdk
from azure.mgmt.containerservice.aio import ContainerServiceClient
from azure.mgmt.containerservice.models import AgentPool, AgentPoolDeleteMachinesParameter

from gpu_provisioner.azure import metrics
from gpu_provisioner.azure.body import pool_body, read_pool
from gpu_provisioner.azure.credentials import RenewableCredential
from gpu_provisioner.azure.errors import About, AzureError, Failure, classify, unanswered
from gpu_provisioner.azure.pools import Pool, PoolSpec
from gpu_provisioner.azure.rules import Where

T = TypeVar("T")

DEADLINE = 20.0
"""Seconds for one request, the token included."""


class AksPools:
    """The agent pools of one managed cluster.

    Args:
        credential: signs in to Azure.
        subscription: subscription id.
        resource_group: the managed cluster's resource group.
        cluster: the managed cluster's name.
        endpoint: Azure Resource Manager's address; None for that of `cloud`.
        cloud: which of Azure's clouds; None for the public one.
        api_version: of Microsoft.ContainerService.
        user_agent: how requests introduce themselves.
        region: the cluster's region, for messages.
        deadline: seconds for one request.
    """

    def __init__(
        self,
        credential: RenewableCredential,
        *,
        subscription: str,
        resource_group: str,
        cluster: str,
        api_version: str,
        user_agent: str,
        endpoint: str | None = None,
        cloud: AzureClouds | None = None,
        region: str = "",
        deadline: float = DEADLINE,
    ) -> None:
        options: dict[str, Any] = {}
        if endpoint:
            options["credential_scopes"] = [f"{endpoint.rstrip('/')}/.default"]
        self._client = ContainerServiceClient(
            credential,
            subscription,
            endpoint,
            cloud_setting=cloud,
            api_version=api_version,
            user_agent=user_agent,
            retry_total=0,
            connection_timeout=10,
            read_timeout=deadline,
            **options,
        )
        self._credential = credential
        self._where = (resource_group, cluster)
        self._about = About(region=region)
        self._deadline = deadline

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._client.close()

    async def list(self) -> list[Pool]:
        """Every agent pool of the cluster, AKS's own included."""

        async def pages() -> list[Pool]:
            return [read_pool(pool) async for pool in self._client.agent_pools.list(*self._where)]

        return await self._call("list", pages)

    async def get(self, name: str) -> Pool | None:
        """The pool, or None when Azure says that there is none of that name."""
        try:
            return read_pool(
                await self._call("get", lambda: self._client.agent_pools.get(*self._where, name))
            )
        except AzureError as error:
            if error.failure.kind == "gone":
                return None
            raise

    async def create(self, spec: PoolSpec) -> Pool | None:
        """Begins to make a pool; None when there is one of that name already."""

        async def put() -> AgentPool:
            poller = await self._client.agent_pools.begin_create_or_update(
                *self._where,
                spec.name,
                pool_body(spec),
                # Azure itself refuses to touch a pool that exists, whoever made it.
                match_condition=MatchConditions.IfMissing,
                polling=False,
            )
            return await poller.result()

        try:
            return read_pool(
                await self._call("put", put, replace(self._about, size=spec.shape.vm_size))
            )
        except AzureError as error:
            if error.failure.kind == "changed":
                return None
            raise

    async def grow(self, name: str, count: int, *, etag: str) -> Pool:
        """Begins to bring the pool of that etag to `count` VMs.

        What else Azure holds of the pool is sent back as it is: a PUT replaces the whole.
        """
        known = await self._call("get", lambda: self._client.agent_pools.get(*self._where, name))
        seen = read_pool(known)
        if (etag and seen.etag != etag) or seen.count >= count or known.properties is None:
            # Never fewer VMs by a PUT: Azure would choose which ones go.
            raise AzureError(Failure("changed", f"Agent pool {name} has changed meanwhile."))
        known.properties.count = count

        async def put() -> AgentPool:
            poller = await self._client.agent_pools.begin_create_or_update(
                *self._where,
                name,
                known,
                etag=seen.etag or None,
                match_condition=MatchConditions.IfNotModified if seen.etag else None,
                polling=False,
            )
            return await poller.result()

        return read_pool(await self._call("put", put, replace(self._about, size=seen.vm_size)))

    async def machines(self, name: str) -> frozenset[str]:
        """The names of the pool's VMs, each also that of its node, joined or not."""

        async def pages() -> frozenset[str]:
            found = self._client.machines.list(*self._where, name)
            return frozenset([machine.name or "" async for machine in found])

        return await self._call("machines", pages)

    async def delete_machines(self, name: str, machines: Sequence[str]) -> None:
        """Begins to delete single VMs of a pool, whose count goes down with them."""

        async def begin() -> None:
            await self._client.agent_pools.begin_delete_machines(
                *self._where,
                name,
                AgentPoolDeleteMachinesParameter(machine_names=sorted(machines)),
                polling=False,
            )

        await self._call("delete-machines", begin)

    async def delete(self, name: str, *, etag: str) -> bool:
        """Begins to delete the pool of that etag; False when there was none."""
        statuses: list[int] = []

        async def begin() -> None:
            await self._client.agent_pools.begin_delete(
                *self._where,
                name,
                polling=False,
                # Pods were asked to leave before, as their budgets allow; what is left may go.
                ignore_pod_disruption_budget=True,
                raw_response_hook=lambda answer: statuses.append(answer.http_response.status_code),
                etag=etag or None,
                match_condition=MatchConditions.IfNotModified if etag else None,
            )

        await self._call("delete", begin)
        return statuses[-1:] != [204]

    async def abort(self, name: str) -> None:
        """Asks AKS to give up the operation that runs on the pool."""

        async def begin() -> None:
            await self._client.agent_pools.begin_abort_latest_operation(
                *self._where, name, polling=False
            )

        await self._call("abort", begin)

    async def _call(
        self, where: Where, request: Callable[[], Awaitable[T]], about: About | None = None
    ) -> T:
        generation = self._credential.generation
        known = about or self._about
        try:
            return await self._measured(where, request, known)
        except AzureError as error:
            if error.failure.kind != "credentials" or not _refused_token(error):
                raise
        # Azure refused the token, and so did nothing: once more, with a new one.
        await self._credential.renew(generation)
        return await self._measured(where, request, known)

    async def _measured(self, where: Where, request: Callable[[], Awaitable[T]], about: About) -> T:
        begun = time.monotonic()
        code = "OK"
        try:
            async with _failures_named(where, about), asyncio.timeout(self._deadline):
                return await request()
        except AzureError as error:
            code = error.failure.reason
            raise
        finally:
            metrics.REQUESTS.labels(where, code).inc()
            metrics.SECONDS.labels(where).observe(time.monotonic() - begun)


def _refused_token(error: AzureError) -> bool:
    """Whether it was the resource manager that said no, and not the place where tokens are made."""
    cause = error.__cause__
    return isinstance(cause, sdk.HttpResponseError) and _from_arm(cause)


@asynccontextmanager
async def _failures_named(where: Where, about: About) -> AsyncIterator[None]:
    """The one door through which the SDK's exceptions leave, as `AzureError`."""
    try:
        yield
    except TimeoutError as error:
        raise AzureError(unanswered(where, "no answer within the deadline")) from error
    except sdk.HttpResponseError as error:
        raise AzureError(_answered(where, error, about)) from error
    except sdk.AzureError as error:
        raise AzureError(unanswered(where, _brief(error))) from error
    except OSError as error:
        # The federated token file cannot be read, or no connection could be made for a token.
        raise AzureError(classify("token", None, None, _brief(error))) from error


def _answered(where: Where, error: sdk.HttpResponseError, about: About) -> Failure:
    if isinstance(error, sdk.ClientAuthenticationError) and not _from_arm(error):
        return classify("token", error.status_code, None, str(error.message))
    code = getattr(error.error, "code", None)
    retry_after = _retry_after(getattr(error, "response", None))
    return classify(
        where, error.status_code, code, _body(error), retry_after=retry_after, about=about
    )


def _from_arm(error: sdk.HttpResponseError) -> bool:
    request = getattr(error.response, "request", None)
    return request is not None and "/subscriptions/" in str(request.url)


def _body(error: sdk.HttpResponseError) -> str:
    try:
        return str(error.response.text()) if error.response is not None else str(error.message)
    except (AttributeError, ValueError, sdk.AzureError):
        return str(error.message)


def _brief(error: BaseException) -> str:
    return " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__


def _retry_after(response: Any) -> float | None:
    """Seconds, from a header that holds seconds or a date."""
    value = response.headers.get("Retry-After") if response is not None else None
    if not value:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except ValueError:
        return None
