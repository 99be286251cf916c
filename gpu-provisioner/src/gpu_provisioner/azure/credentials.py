"""How the program signs in to Azure.

Invariant: nothing is fetched here; a wrong identity shows on the first call, as a reason on the
claims that wait for it, and goes away when the identity is mended, without a restart.
"""

from azure.core.credentials_async import AsyncTokenCredential
from azure.identity.aio import DefaultAzureCredential, WorkloadIdentityCredential

from gpu_provisioner.settings import Settings


def credential(settings: Settings) -> AsyncTokenCredential:
    """Workload identity, or in managed mode whatever identity the host has."""
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
