"""How the program signs in to Azure.

Invariant: nothing is fetched here before it is asked for; a wrong identity shows on the first call,
as a reason on the claims that wait for it, and goes away when the identity is mended, without a
restart.
"""

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from azure.core.credentials import AccessToken
from azure.core.credentials_async import AsyncTokenCredential
from azure.identity.aio import DefaultAzureCredential, WorkloadIdentityCredential

from gpu_provisioner.settings import Settings


class RenewableCredential:
    """A credential whose cached tokens can be thrown away.

    The SDK keeps a token until it expires, up to a day; one that Azure has revoked meanwhile would
    be sent, and refused, all that time.
    """

    def __init__(self, make: Callable[[], AsyncTokenCredential]) -> None:
        self._make = make
        self._current = make()
        self._former: AsyncTokenCredential | None = None
        self.generation = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        await self.close()

    async def get_token(
        self,
        *scopes: str,
        claims: str | None = None,
        tenant_id: str | None = None,
        enable_cae: bool = False,
        **kwargs: Any,
    ) -> AccessToken:
        """A token for these scopes."""
        return await self._current.get_token(
            *scopes, claims=claims, tenant_id=tenant_id, enable_cae=enable_cae, **kwargs
        )

    async def renew(self, generation: int) -> None:
        """Forgets all tokens of that generation; of many who ask, the first is heard."""
        if generation != self.generation:
            return
        self.generation += 1
        # Whoever is just fetching a token with the last one may finish; the one before is idle.
        idle, self._former, self._current = self._former, self._current, self._make()
        if idle is not None:
            await idle.close()

    async def close(self) -> None:
        """Closes all connections."""
        await self._current.close()
        if self._former is not None:
            await self._former.close()


def credential(settings: Settings) -> RenewableCredential:
    """Workload identity, or in managed mode whatever identity the host has."""
    return RenewableCredential(lambda: _credential(settings))


def _credential(settings: Settings) -> AsyncTokenCredential:
    if settings.deployment_mode == "managed":
        return DefaultAzureCredential(
            authority=settings.authority_host, process_timeout=20, retry_total=0
        )
    return WorkloadIdentityCredential(
        tenant_id=settings.tenant_id,
        client_id=settings.client_id,
        token_file_path=str(settings.federated_token_file),
        authority=settings.authority_host,
        # Private clouds have no public discovery endpoint, and public ones do not need it.
        disable_instance_discovery=True,
        retry_total=0,
    )
