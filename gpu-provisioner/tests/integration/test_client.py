"""The real SDK at our narrow border, against the emulated Azure over https."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from azure.core.credentials_async import AsyncTokenCredential
from azure.identity.aio import DefaultAzureCredential, WorkloadIdentityCredential

from gpu_provisioner.azure.client import AksPools
from gpu_provisioner.azure.credentials import RenewableCredential, credential
from gpu_provisioner.azure.errors import AzureError
from gpu_provisioner.azure.pools import PoolSpec, Shape
from gpu_provisioner.settings import Settings
from sandbox.aks.client import ControlClient
from sandbox.aks.testing import Bench, Starter

SPEC = PoolSpec(
    "ws1",
    Shape(
        "Standard_NC6s_v3",
        os_disk_gib=120,
        labels={"kaito.sh/workspace": "phi-3"},
        taints=("sku=gpu:NoSchedule", "dedicated:NoExecute"),
    ),
    tags={"gpu-provisioner-claim": "ws1"},
)

Connect = Callable[..., AbstractAsyncContextManager[AksPools]]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with Starter.within(tmp_path)(speed=200) as running:
        yield running


@pytest.fixture
def control(bench: Bench) -> ControlClient:
    return bench.control


@pytest.fixture
def connect(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Makes clients; the emulator's CA is trusted as a process would by SSL_CERT_FILE."""
    import ssl  # noqa: PLC0415

    from aiohttp import connector  # noqa: PLC0415

    trusting = ssl.create_default_context(cafile=str(bench.emulator.ca))
    monkeypatch.setattr(connector, "_SSL_CONTEXT_VERIFIED", trusting)

    @asynccontextmanager
    async def clients(token: str = "token", **changes: Any) -> AsyncIterator[AksPools]:
        cluster = bench.emulator.cluster

        def make() -> AsyncTokenCredential:
            return WorkloadIdentityCredential(
                tenant_id=cluster.tenant,
                client_id=cluster.client,
                token_file_path=str(tmp_path / token),
                authority=bench.emulator.url,
                disable_instance_discovery=True,
                retry_total=0,
            )

        usual: dict[str, Any] = {
            "subscription": cluster.subscription,
            "resource_group": cluster.resource_group,
            "cluster": cluster.name,
            "api_version": "2026-08-01",
            "user_agent": "gpu-provisioner-aks/vtest",
            "endpoint": bench.emulator.url,
            "deadline": 2.0,
        }
        async with (
            RenewableCredential(make) as identity,
            AksPools(identity, **usual | changes) as pools,
        ):
            yield pools

    return clients


async def refused(call: Any) -> AzureError:
    with pytest.raises(AzureError) as error:
        await call
    return error.value


async def test_a_pool_is_made_read_and_deleted(connect: Connect, control: ControlClient) -> None:
    async with connect() as pools:
        assert await pools.get("ws1") is None
        made = await pools.create(SPEC)
        assert made is not None
        assert (made.name, made.state, made.phase, made.count) == (
            "ws1",
            "InProgress",
            "Creating",
            1,
        )
        assert dict(made.tags) == dict(SPEC.tags)
        assert made.etag
        assert [pool.name for pool in await pools.list() if not pool.system] == ["ws1"]
        assert await pools.delete("none", etag="") is False

        await pools.abort("ws1")
        canceled = await _reach(pools, "Failed")
        assert canceled.phase == "Canceled"
        assert await pools.delete("ws1", etag=canceled.etag) is True
    call = (await control.calls("PUT"))[0]
    assert (call["apiVersion"], call["ifNoneMatch"]) == ("2026-08-01", "*")
    assert call["userAgent"].startswith("gpu-provisioner-aks/vtest ")


async def _reach(pools: AksPools, state: str) -> Any:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        pool = await pools.get("ws1")
        if pool is not None and pool.state == state:
            return pool
    raise AssertionError(f"the pool is not {state} within 10 s")


async def test_an_existing_pool_is_never_overwritten(connect: Connect) -> None:
    async with connect() as pools:
        await pools.create(SPEC)
        assert await pools.create(replace(SPEC, shape=replace(SPEC.shape, os_disk_gib=50))) is None


async def test_a_deletion_is_for_the_pool_that_was_seen(connect: Connect) -> None:
    async with connect() as pools:
        await pools.create(SPEC)
        await _reach(pools, "Succeeded")
        error = await refused(pools.delete("ws1", etag="an-older-one"))
        assert error.failure.kind == "changed"


async def test_all_pages_of_a_list_are_read(connect: Connect, control: ControlClient) -> None:
    await control.set(pageSize=2)
    async with connect() as pools:
        for number in range(5):
            await pools.create(replace(SPEC, name=f"ws{number}"))
        found = await pools.list()
    assert sorted(pool.name for pool in found if not pool.system) == [f"ws{n}" for n in range(5)]
    assert any(pool.system for pool in found)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (("error", "PUT", {"error": "quota-family"}), "quota"),
        (("error", "PUT", {"error": "in-progress"}), "conflict"),
        (("error", "PUT", {"error": "forbidden"}), "forbidden"),
        (("error", "PUT", {"error": "group-not-found"}), "no-cluster"),
        (("error", "PUT", {"error": "unavailable"}), "transient"),
        (("error", "PUT", {"error": "size-restricted"}), "size"),
        (("hang", "PUT", {}), "transient"),
        (("error", "TOKEN", {"error": "aad-federation"}), "credentials"),
        (("error", "TOKEN", {"error": "aad-oidc-fetch"}), "transient"),
        (("hang", "TOKEN", {}), "transient"),
        (("cut-before", "TOKEN", {"count": None}), "transient"),
    ],
)
async def test_every_way_to_fail_is_told_by_its_kind(
    connect: Connect, control: ControlClient, fault: tuple[str, str, dict[str, Any]], kind: str
) -> None:
    effect, verb, fields = fault
    await control.inject(effect, verb=verb, **fields)
    async with connect() as pools:
        assert (await refused(pools.create(SPEC))).failure.kind == kind


async def test_a_hung_call_ends_with_its_deadline(connect: Connect, control: ControlClient) -> None:
    await control.inject("hang", verb="LIST")
    async with connect(deadline=0.5) as pools:
        begun = time.monotonic()
        assert "within the deadline" in str(await refused(pools.list()))
        assert time.monotonic() - begun < 2


async def test_a_throttle_says_how_long_and_nothing_is_slept_away(
    connect: Connect, control: ControlClient
) -> None:
    await control.inject("error", verb="PUT", error="throttled", retryAfter=77)
    async with connect() as pools:
        begun = time.monotonic()
        error = await refused(pools.create(SPEC))
        assert (error.failure.kind, error.failure.retry_after) == ("throttled", 77)
        assert time.monotonic() - begun < 1
    assert len(await control.calls("PUT")) == 1


async def test_a_missing_token_file_is_told_by_name(connect: Connect) -> None:
    async with connect(token="nowhere") as pools:
        error = await refused(pools.list())
    assert error.failure.kind == "credentials"
    assert "nowhere" in error.message


async def test_a_token_that_was_revoked_is_replaced_within_the_call(
    connect: Connect, control: ControlClient
) -> None:
    async with connect() as pools:
        await pools.list()
        await control.revoke_tokens()
        await pools.list()
        await control.revoke_tokens()
        await pools.list()


async def test_an_unknown_cluster_is_told(connect: Connect) -> None:
    async with connect(cluster="elsewhere") as pools:
        assert (await refused(pools.list())).failure.kind == "no-cluster"
        assert (await refused(pools.get("ws1"))).failure.kind == "no-cluster"


async def test_nobody_listening_is_told(connect: Connect) -> None:
    async with connect(endpoint="https://127.0.0.1:1") as pools:
        assert (await refused(pools.list())).failure.kind == "transient"


@pytest.mark.parametrize(
    ("mode", "made"),
    [("self-hosted", WorkloadIdentityCredential), ("managed", DefaultAzureCredential)],
)
async def test_the_deployment_mode_decides_how_it_signs_in(
    monkeypatch: pytest.MonkeyPatch, mode: str, made: type
) -> None:
    for name, value in {
        "ARM_SUBSCRIPTION_ID": "s",
        "ARM_RESOURCE_GROUP": "r",
        "AZURE_CLUSTER_NAME": "c",
        "AZURE_TENANT_ID": "t",
        "AZURE_CLIENT_ID": "i",
        "AZURE_FEDERATED_TOKEN_FILE": "/f",
        "DEPLOYMENT_MODE": mode,
    }.items():
        monkeypatch.setenv(name, value)
    async with credential(Settings()) as identity:
        assert isinstance(identity._current, made)
