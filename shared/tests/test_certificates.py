"""How replicas share a certificate and have the API server trust it; in virtual time."""

import asyncio
import base64
from typing import Any

import pytest
from structlog.testing import capture_logs

from controlkit.certificates import (
    AUTHORITIES,
    CERTIFICATE,
    KEY,
    Secret,
    WebhookCertificate,
    WebhookConfiguration,
)
from controlkit.errors import Blocked, ControlError, NotFound, Transient
from controlkit.kube.objects import Key
from controlkit_testing import LoopClock, MemoryApi, eventually

pytestmark = pytest.mark.looptime

SECRET = Key("ns", "webhook-cert")
NAME = "validation.example.com"


def server(*, configured: bool = True) -> MemoryApi:
    api = MemoryApi()
    if configured:
        webhooks: list[Any] = [
            {"name": each, "clientConfig": {"url": "https://x"}} for each in ("a.x", "b.x")
        ]
        api.put(WebhookConfiguration.RESOURCE, {"metadata": {"name": NAME}, "webhooks": webhooks})
    return api


def certificate(
    api: MemoryApi, dns: str = "webhook.ns.svc", look_every: float = 30.0
) -> WebhookCertificate:
    return WebhookCertificate(
        api.client(),
        secret=SECRET,
        dns_names=[dns],
        webhook_configuration=NAME,
        look_every=look_every,
        clock=LoopClock(),
    )


def stored(api: MemoryApi) -> dict[str, bytes]:
    secret = api.see(Secret.RESOURCE, SECRET)
    assert secret is not None
    return {name: base64.b64decode(value) for name, value in secret["data"].items()}


def trusted(api: MemoryApi) -> list[bytes]:
    configuration = api.see(WebhookConfiguration.RESOURCE, Key("", NAME))
    assert configuration is not None
    bundles = [each["clientConfig"].get("caBundle", "") for each in configuration["webhooks"]]
    return [base64.b64decode(bundle) for bundle in bundles]


async def test_the_first_replica_makes_it_stores_it_and_has_it_trusted() -> None:
    api = server()
    first = certificate(api)
    before = first.ready
    async with asyncio.TaskGroup() as group:
        task = group.create_task(first.run())
        await asyncio.sleep(6)
        assert (before, first.ready) == (False, True)
        task.cancel()
    held = stored(api)
    assert set(held) == {KEY, CERTIFICATE, AUTHORITIES}
    assert trusted(api) == [held[AUTHORITIES]] * 2


async def test_replicas_that_start_together_end_with_one_certificate() -> None:
    api = server()
    replicas = [certificate(api) for _ in range(5)]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(each.run()) for each in replicas]
        await asyncio.sleep(60)
        for task in tasks:
            task.cancel()
    held = stored(api)
    pairs = {each._serving for each in replicas}
    assert [pair.certificate for pair in pairs if pair] == [held[CERTIFICATE]]
    assert trusted(api) == [held[AUTHORITIES]] * 2


async def test_an_empty_secret_of_the_chart_is_filled() -> None:
    api = server()
    api.put(Secret.RESOURCE, {"metadata": {"name": SECRET.name, "namespace": SECRET.namespace}})
    only = certificate(api)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(only.run())
        await asyncio.sleep(6)
        assert only.ready
        task.cancel()
    assert set(stored(api)) == {KEY, CERTIFICATE, AUTHORITIES}


async def test_a_renewal_is_trusted_before_any_replica_serves_it() -> None:
    api = server()
    hours = 3600.0
    replicas = [certificate(api, look_every=12 * hours) for _ in range(3)]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(each.run()) for each in replicas]
        await asyncio.sleep(60)
        first = stored(api)
        await asyncio.sleep(88 * 24 * hours)
        assert stored(api) == first
        for _ in range(2 * 24 * 60):
            await asyncio.sleep(60)
            for replica in replicas:
                assert replica._serving is not None
                assert first_of(replica._serving.authorities) in trusted(api)[0]
        renewed = stored(api)
        for task in tasks:
            task.cancel()
    assert renewed[CERTIFICATE] != first[CERTIFICATE]
    assert {each._serving and each._serving.certificate for each in replicas} == {
        renewed[CERTIFICATE]
    }
    assert renewed[AUTHORITIES].count(b"BEGIN CERTIFICATE") == 2


def first_of(bundle: bytes) -> bytes:
    return bundle[: bundle.index(b"-----END")]


async def test_a_bundle_that_somebody_reset_is_mended() -> None:
    api = server()
    only = certificate(api)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(only.run())
        await asyncio.sleep(6)
        webhooks = [{"name": "a.x", "clientConfig": {"caBundle": ""}}]
        api.put(WebhookConfiguration.RESOURCE, {"metadata": {"name": NAME}, "webhooks": webhooks})
        await asyncio.sleep(31)
        assert trusted(api) == [stored(api)[AUTHORITIES]]
        task.cancel()


async def test_a_deleted_secret_is_made_anew_and_what_is_served_stays_trusted() -> None:
    api = server()
    replicas = [certificate(api) for _ in range(2)]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(each.run()) for each in replicas]
        await asyncio.sleep(10)
        old = stored(api)
        api.remove(Secret.RESOURCE, SECRET)
        for _ in range(600):
            await asyncio.sleep(0.1)
            for replica in replicas:
                assert replica._serving is not None
                assert first_of(replica._serving.authorities) in trusted(api)[0]
        new = stored(api)
        for task in tasks:
            task.cancel()
    assert new[CERTIFICATE] != old[CERTIFICATE]
    assert {each._serving and each._serving.certificate for each in replicas} == {new[CERTIFICATE]}


async def test_another_name_asks_for_another_certificate() -> None:
    api = server()
    for dns in ("old.ns.svc", "new.ns.svc"):
        replica = certificate(api, dns)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(replica.run())
            await asyncio.sleep(10)
            task.cancel()
        assert replica.ready
    assert stored(api)[AUTHORITIES].count(b"BEGIN CERTIFICATE") == 2


async def test_without_a_configuration_it_serves_all_the_same() -> None:
    api = server(configured=False)
    only = certificate(api)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(only.run())
        await asyncio.sleep(1)
        assert only.ready
        task.cancel()


async def test_an_outage_is_waited_for() -> None:
    api = server()
    faults: list[ControlError] = [Transient("Unreachable", "away")] * 4
    api.fault = lambda _verb, _path: faults.pop() if faults else None
    only = certificate(api)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(only.run())
        await asyncio.sleep(120)
        assert only.ready
        assert trusted(api) == [stored(api)[AUTHORITIES]] * 2
        task.cancel()


async def test_it_is_ready_when_api_servers_had_time_to_learn_of_what_was_published() -> None:
    api = server()
    api.fault = lambda verb, path: (
        Blocked("Forbidden", "no") if verb == "PATCH" and "configurations" in path else None
    )
    only = certificate(api)
    ready = []
    async with asyncio.TaskGroup() as group:
        task = group.create_task(only.run())
        await asyncio.sleep(60)
        ready.append(only.ready)
        assert stored(api), "it is issued, but nobody trusts it yet"
        api.fault = lambda _verb, _path: None
        await eventually(lambda: trusted(api) == [stored(api)[AUTHORITIES]] * 2, seconds=40)
        ready.append(only.ready)
        await asyncio.sleep(5)
        ready.append(only.ready)
        task.cancel()
    assert ready == [False, False, True]


async def test_a_restart_with_a_trusted_certificate_is_ready_at_once() -> None:
    api = server()
    for patience in (6.0, 0.1):
        replica = certificate(api)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(replica.run())
            await asyncio.sleep(patience)
            assert replica.ready
            task.cancel()


async def test_a_namespace_that_is_not_there_is_said_and_asked_for_ever_less() -> None:
    api = server()
    missing = NotFound("NotFound", 'namespaces "ns" not found')
    api.fault = lambda verb, _path: missing if verb == "POST" else None
    only = certificate(api)
    async with asyncio.TaskGroup() as group:
        with capture_logs() as logs:
            task = group.create_task(only.run())
            await asyncio.sleep(120)
        tries = sum(verb == "POST" for verb, _ in api.calls)
        assert 5 <= tries <= 9
        assert [each["log_level"] for each in logs] == ["warning"] * tries
        assert "there is no namespace 'ns': create it" in logs[0]["detail"]
        api.fault = lambda _verb, _path: None
        await asyncio.sleep(40)
        assert only.ready
        task.cancel()
