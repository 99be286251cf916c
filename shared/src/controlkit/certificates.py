"""Keeps a webhook server's certificate valid, shared among replicas, and known to the API server.

Invariant: the Secret is the truth, written by whoever is first; no replica serves a certificate
that the webhook configuration does not trust yet, so a rotation fails no request.
"""

import base64
import binascii
import os
import ssl
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from typing import Any, ClassVar

import structlog
from pydantic import Field

from controlkit.clock import Clock, SystemClock
from controlkit.errors import Blocked, ControlError, NotFound, Stale
from controlkit.kube.client import KubeClient
from controlkit.kube.objects import ApiModel, Key, KubeObject, Resource
from controlkit.pki import Names, Pair, flaw, issue

log = structlog.get_logger(__name__)

KEY, CERTIFICATE, AUTHORITIES = "server-key.pem", "server-cert.pem", "ca-cert.pem"


class Secret(KubeObject):
    """Where the replicas share the certificate."""

    RESOURCE: ClassVar[Resource] = Resource("", "v1", "secrets", "Secret")

    data: dict[str, str] = Field(default_factory=dict)


class _ClientConfig(ApiModel):
    ca_bundle: str = ""


class _Webhook(ApiModel):
    name: str
    client_config: _ClientConfig


class WebhookConfiguration(KubeObject):
    """Whom the API server asks, and whose certificate it trusts."""

    RESOURCE: ClassVar[Resource] = Resource(
        "admissionregistration.k8s.io",
        "v1",
        "validatingwebhookconfigurations",
        "ValidatingWebhookConfiguration",
        namespaced=False,
    )

    webhooks: tuple[_Webhook, ...] = ()


class WebhookCertificate:
    """The certificate of one webhook server.

    Attributes:
        ssl_context: for the server; the certificate in it changes while it is in use.
    """

    def __init__(
        self,
        client: KubeClient,
        *,
        secret: Key,
        dns_names: Sequence[str],
        ip_addresses: Sequence[str] = (),
        webhook_configuration: str,
        renew_before: timedelta = timedelta(hours=24),
        look_every: float = 30.0,
        settle: float = 5.0,
        clock: Clock | None = None,
    ) -> None:
        """A certificate not yet there; `run` brings it.

        Args:
            client: needs get, create and patch on the Secret, get and patch on the configuration.
            secret: where the pair is kept; created when missing.
            dns_names: by which the API server calls, such as "service.namespace.svc".
            ip_addresses: by which it calls when it runs outside the cluster's network.
            webhook_configuration: name of the ValidatingWebhookConfiguration.
            renew_before: how long before its end the certificate is replaced.
            look_every: seconds between looks at the Secret and the configuration.
            settle: seconds that API servers get to learn of a new authority.
            clock: tells what is still valid.
        """
        self.ssl_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ssl_context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._client = client
        self._secret = secret
        self._names = Names(tuple(dns_names), tuple(ip_addresses))
        self._configuration = Key("", webhook_configuration)
        self._renew_before = renew_before
        self._look_every = look_every
        self._settle = settle
        self._clock: Clock = clock or SystemClock()
        self._serving: Pair | None = None

    @property
    def ready(self) -> bool:
        """Whether the context holds a certificate that the API server trusts."""
        return self._serving is not None

    async def run(self) -> None:
        """Issues, renews and publishes the certificate until cancelled."""
        failures = 0
        while True:
            try:
                await self._look()
                failures = 0
                pause = self._look_every
            except Stale as error:  # another replica was faster: see what it wrote
                log.debug("certificate changed meanwhile", detail=error.message)
                pause = 0.1
            except ControlError as error:
                failures += 1
                pause = min(self._look_every, 2.0**failures)
                log.warning("certificate not tended", reason=error.reason, detail=error.message)
            await self._clock.sleep(pause)

    async def _look(self) -> None:
        # The configuration is read before the Secret, and written only if unchanged since: so
        # whoever read an old Secret can never undo what was published for a newer one.
        configuration = await self._client.get(WebhookConfiguration, self._configuration)
        pair = await self._current()
        published = False
        if configuration is None:
            log.warning("webhook configuration is missing", name=str(self._configuration))
        else:
            published = await self._publish(configuration, pair)
        if pair != self._serving:
            if published or self._serving:
                await self._clock.sleep(self._settle)
            self._serve(pair)

    async def _current(self) -> Pair:
        """The pair in the Secret, after putting a new one there if it has a flaw."""
        secret = await self._client.get(Secret, self._secret)
        held = _pair(secret.data if secret else {})
        now = self._clock.now()
        problem = flaw(held, self._names, now, before=self._renew_before)
        if not problem:
            return held
        # What we serve stays trusted even when somebody deleted the Secret under us.
        serving = self._serving.authorities if self._serving else b""
        fresh = issue(self._names, now, old_authorities=serving + held.authorities)
        metadata = {"name": self._secret.name, "namespace": self._secret.namespace}
        data = _data(fresh)
        if secret is None:
            body: dict[str, Any] = {"metadata": metadata, "type": "Opaque", "data": data}
            await self._create(body)
        else:
            guard = {"resourceVersion": secret.metadata.resource_version}
            await self._client.merge_patch(
                Secret.RESOURCE, self._secret, {"metadata": guard, "data": data}
            )
        log.info("certificate issued", secret=str(self._secret), because=problem)
        return fresh

    async def _create(self, body: dict[str, Any]) -> None:
        try:
            await self._client.create(Secret.RESOURCE, body)
        except NotFound as error:  # not another replica's work: it will fail every time
            raise Blocked(
                "NoNamespace",
                f"the certificate's Secret {self._secret} cannot be created, as there is no "
                f"namespace {self._secret.namespace!r}: create it, or name the controller's own "
                f"({error.message})",
            ) from error

    async def _publish(self, configuration: WebhookConfiguration, pair: Pair) -> bool:
        """Has the API server trust the pair's authorities in every webhook; False if it did."""
        bundle = base64.b64encode(pair.authorities).decode()
        if all(each.client_config.ca_bundle == bundle for each in configuration.webhooks):
            return False
        metadata = configuration.metadata
        manifest = {
            "metadata": {"name": metadata.name, "resourceVersion": metadata.resource_version},
            "webhooks": [
                {"name": each.name, "clientConfig": {"caBundle": bundle}}
                for each in configuration.webhooks
            ],
        }
        await self._client.apply(WebhookConfiguration.RESOURCE, manifest, force=True)
        log.info("authority published", configuration=metadata.name)
        return True

    def _serve(self, pair: Pair) -> None:
        with ExitStack() as stack:
            paths = [_file(stack, pair.certificate), _file(stack, pair.key)]
            self.ssl_context.load_cert_chain(*paths)
        log.info("certificate loaded", renewal=self._serving is not None)
        self._serving = pair


def _file(stack: ExitStack, content: bytes) -> str:
    """A path that holds the content: in memory, since the root file system may be read-only."""
    descriptor = os.memfd_create("certificate")
    stack.callback(os.close, descriptor)
    os.write(descriptor, content)
    return f"/proc/self/fd/{descriptor}"


def _data(pair: Pair) -> dict[str, str]:
    parts = {KEY: pair.key, CERTIFICATE: pair.certificate, AUTHORITIES: pair.authorities}
    return {name: base64.b64encode(part).decode() for name, part in parts.items()}


def _pair(data: dict[str, str]) -> Pair:
    try:
        parts = [base64.b64decode(data.get(name, "")) for name in (KEY, CERTIFICATE, AUTHORITIES)]
    except binascii.Error:
        parts = [b"", b"", b""]
    return Pair(*parts)
