"""A cluster administrator's HTTP calls, for what the sandbox itself needs to ask or to set.

Every call ends within its deadline; an answer that is not a success raises with the server's text.
"""

import asyncio
import json
import ssl
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx

from sandbox.controlplane.pki import Credential
from sandbox.errors import SandboxError

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
BUSY_PAUSE = 0.2


class AdminError(SandboxError):
    """The API server refused a call of the sandbox."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Admin:
    """Calls one API server with a client certificate; bound to no event loop."""

    url: str
    ssl_context: ssl.SSLContext

    @classmethod
    def connect(cls, url: str, ca: Path, credential: Credential) -> "Admin":
        """Returns an administrator of the API server at `url`."""
        context = ssl.create_default_context(cafile=str(ca))
        context.load_cert_chain(credential.certificate, credential.key)
        return cls(url, context)

    async def missing(self, check: str = "readyz") -> str:
        """Returns "" when the server passes its own check, else what it still lacks."""
        try:
            async with self._client(5.0) as client:
                answer = await client.get(f"/{check}?verbose")
        except httpx.TransportError as error:
            return f"no answer from {self.url}: {type(error).__name__} {error}"
        if answer.is_success:
            return ""
        missing = [line for line in answer.text.splitlines() if line.startswith("[-]")]
        return "; ".join(missing) or f"{answer.status_code} {answer.text[:200]}"

    async def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        content_type: str = "application/json",
        seconds: float = 30.0,
    ) -> dict[str, Any]:
        """Makes one call and returns the JSON object that answers it.

        A server that says 429 has not looked at the call, as when a changed CRD makes it set up
        a kind's storage anew; it is asked again until `seconds` have passed.

        Raises:
            AdminError: the answer's status is 400 or above.
            httpx.TransportError: there was no answer.
        """
        content = None if body is None else json.dumps(body)
        headers = {"Content-Type": content_type}
        deadline = time.monotonic() + seconds
        async with self._client(seconds) as client:
            answer = await client.request(method, path, content=content, headers=headers)
            while (
                answer.status_code == HTTPStatus.TOO_MANY_REQUESTS and time.monotonic() < deadline
            ):
                await asyncio.sleep(BUSY_PAUSE)
                answer = await client.request(method, path, content=content, headers=headers)
        if answer.is_error:
            raise AdminError(
                answer.status_code, f"{method} {path}: {answer.status_code} {_message(answer)}"
            )
        decoded: dict[str, Any] = answer.json()
        return decoded

    async def apply(self, path: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Creates or updates the object at `path` by server-side apply."""
        return await self.call(
            "PATCH", f"{path}?fieldManager=sandbox&force=true", manifest, content_type=APPLY
        )

    async def token(
        self, service_account: str, namespace: str, *, seconds: int, audiences: Iterable[str] = ()
    ) -> str:
        """Returns a token of a ServiceAccount, made by the TokenRequest API."""
        answer = await self.call(
            "POST",
            f"/api/v1/namespaces/{namespace}/serviceaccounts/{service_account}/token",
            {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenRequest",
                "spec": {"expirationSeconds": seconds, "audiences": list(audiences)},
            },
        )
        token: str = answer["status"]["token"]
        return token

    def _client(self, seconds: float) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self.url, verify=self.ssl_context, timeout=seconds, trust_env=False
        )


def _message(answer: httpx.Response) -> str:
    """The sentence of a Kubernetes Status object, or whatever else the server said."""
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return answer.text[:1000]
