"""A real API server asks our webhook over TLS, while its certificates change."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import pytest
from fastapi import FastAPI

from controlkit.admission import AdmissionRequest, Verdict
from controlkit.admission_routes import admission_routes
from controlkit.certificates import Secret, WebhookCertificate, WebhookConfiguration
from controlkit.errors import Blocked, ControlError
from controlkit.kube.client import KubeClient
from controlkit.kube.objects import Key, KubeObject, Resource
from controlkit.server import serve
from controlkit_testing import eventually, free_port

pytestmark = pytest.mark.control_plane

PATH = "/validate/configmaps"


class ConfigMap(KubeObject):
    RESOURCE: ClassVar[Resource] = Resource("", "v1", "configmaps", "ConfigMap")


async def judge(request: AdmissionRequest) -> Verdict:
    data = (request.object or {}).get("data") or {}
    if data.get("colour") == "grey":
        return Verdict(False, "colour grey is not allowed; choose red, green or blue")
    if data.get("colour") == "crash":
        raise ZeroDivisionError
    return Verdict(True)


class Replicas:
    """Two webhook servers that share a Secret; the API server asks both about everything."""

    def __init__(self, client: KubeClient, namespace: str) -> None:
        self.client = client
        self.namespace = namespace
        self.name = f"{namespace}.example.com"
        self.secret = Key(namespace, "webhook-cert")
        self.ports = [free_port(), free_port()]
        self.certificates = [
            WebhookCertificate(
                client,
                secret=self.secret,
                dns_names=["webhook.ns.svc"],
                ip_addresses=["127.0.0.1"],
                webhook_configuration=self.name,
                look_every=0.2,
                settle=1.0,
            )
            for _ in self.ports
        ]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        await self.client.create(WebhookConfiguration.RESOURCE, self.configuration())
        app = FastAPI(routes=admission_routes({PATH: judge}))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each.run()) for each in self.certificates] + [
                group.create_task(
                    serve(app, host="127.0.0.1", port=port, ssl_context=each.ssl_context)
                )
                for port, each in zip(self.ports, self.certificates, strict=True)
            ]
            try:
                await self.until_trusted()
                yield
            finally:
                key = Key("", self.name)
                await self.client.delete(WebhookConfiguration.RESOURCE, key)
                for task in tasks:
                    task.cancel()

    async def until_trusted(self) -> None:
        """The API server learns of a configuration a moment after it is written."""
        await eventually(lambda: all(each.ready for each in self.certificates))
        numbers = itertools.count()
        await eventually(self.nothing_refused(numbers))

    def nothing_refused(self, numbers: Iterator[int]) -> Callable[[], Awaitable[bool]]:
        async def ask() -> bool:
            return await self.refusal(f"probe{next(numbers)}", colour="red") == ""

        return ask

    async def refusal(self, name: str, **data: str) -> str:
        """ "" when a ConfigMap could be created, "denied", or what else went wrong."""
        manifest = {"metadata": {"name": name, "namespace": self.namespace}, "data": data}
        try:
            await self.client.create(ConfigMap.RESOURCE, manifest)
        except Blocked as error:
            return "denied" if "denied the request" in error.message else str(error)
        except ControlError as error:
            return str(error)
        return ""

    def served(self) -> set[bytes]:
        """The certificates in use, one if the replicas agree."""
        return {each._serving.certificate for each in self.certificates if each._serving}

    def agree_on_one_not_in(self, seen: list[bytes]) -> bool:
        served = self.served()
        return len(served) == 1 and served.isdisjoint(seen)

    def configuration(self) -> dict[str, Any]:
        rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"]}
        here = {"matchLabels": {"kubernetes.io/metadata.name": self.namespace}}
        return {
            "metadata": {"name": self.name},
            "webhooks": [
                {
                    "name": f"w{port}.example.com",
                    "clientConfig": {"url": f"https://127.0.0.1:{port}{PATH}"},
                    "rules": [rule | {"resources": ["configmaps"]}],
                    "namespaceSelector": here,
                    "failurePolicy": "Fail",
                    "sideEffects": "None",
                    "admissionReviewVersions": ["v1"],
                }
                for port in self.ports
            ],
        }


async def test_the_api_server_passes_on_what_the_webhook_says(
    client: KubeClient, namespace: str
) -> None:
    replicas = Replicas(client, namespace)
    async with replicas.running():
        assert await replicas.refusal("red", colour="red") == ""
        with pytest.raises(Blocked, match="choose red, green or blue"):
            await client.create(
                ConfigMap.RESOURCE,
                {"metadata": {"name": "g", "namespace": namespace}, "data": {"colour": "grey"}},
            )
        with pytest.raises(Blocked, match="bug of the webhook"):
            await client.create(
                ConfigMap.RESOURCE,
                {"metadata": {"name": "c", "namespace": namespace}, "data": {"colour": "crash"}},
            )


async def test_certificates_rotate_under_load_and_no_request_fails(
    client: KubeClient, namespace: str
) -> None:
    replicas = Replicas(client, namespace)
    refusals: list[str] = []
    seen: list[bytes] = []

    async def load(worker: int) -> None:
        number = 0
        while True:
            number += 1
            refusals.append(await replicas.refusal(f"w{worker}-{number}", colour="red"))
            await asyncio.sleep(0.01)

    async with replicas.running(), asyncio.TaskGroup() as group:
        workers = [group.create_task(load(worker)) for worker in range(4)]
        for _ in range(3):
            await eventually(lambda: replicas.agree_on_one_not_in(seen))
            seen.extend(replicas.served())
            await client.delete(Secret.RESOURCE, replicas.secret)
        await asyncio.sleep(0.5)
        for each in workers:
            each.cancel()

    assert len(set(seen)) == 3
    assert len(refusals) > 50
    assert set(refusals) == {""}, "a rotation must fail no request"
