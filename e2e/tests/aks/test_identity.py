"""Tokens, as the real workload identity credential asks for them."""

import base64
import json
import ssl
import time

import httpx
import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.identity.aio import DefaultAzureCredential

from sandbox.aks.settings import Cluster
from sandbox.aks.testing import Bench, Starter, status_and_code


def assertion(**claims: object) -> str:
    parts = [{"alg": "RS256"}, claims]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode() for part in parts]
    return ".".join([*encoded, "signature"])


@pytest.mark.parametrize(
    ("credential", "number"),
    [
        ({"client_id": "11111111-1111-1111-1111-111111111111"}, "AADSTS700016"),
        ({"tenant_id": "11111111-1111-1111-1111-111111111111"}, "AADSTS90002"),
    ],
)
async def test_a_strange_client_or_tenant_gets_no_token(
    start: Starter, credential: dict[str, str], number: str
) -> None:
    async with start(credential=credential) as bench:
        with pytest.raises(ClientAuthenticationError) as caught:
            await bench.names()
    assert number in str(caught.value)


async def test_the_subject_of_the_assertion_can_be_demanded(start: Starter) -> None:
    subject = "system:serviceaccount:gpu-provisioner:gpu-provisioner"
    start.token_file.write_text(assertion(sub="system:serviceaccount:default:default"))
    async with start(federatedSubject=subject) as bench:
        with pytest.raises(ClientAuthenticationError, match="AADSTS700213"):
            await bench.names()
    start.token_file.write_text(assertion(sub=subject, exp=time.time() + 60))
    async with start(federatedSubject=subject) as bench:
        assert await bench.names() == ["system"]


@pytest.mark.parametrize(
    ("text", "number"),
    [(assertion(exp=1), "AADSTS700024"), ("not-a-token", "AADSTS50027")],
    ids=["expired", "malformed"],
)
async def test_an_assertion_that_is_no_good_gets_no_token(
    start: Starter, text: str, number: str
) -> None:
    start.token_file.write_text(text)
    async with start(federatedSubject="anyone") as bench:
        with pytest.raises(ClientAuthenticationError, match=number):
            await bench.names()


async def test_an_access_token_expires_and_can_be_revoked(start: Starter) -> None:
    async with start() as bench:
        await bench.names()
        await bench.control.revoke_tokens()
        with pytest.raises(ClientAuthenticationError) as caught:
            await bench.names()
        assert status_and_code(caught.value) == (401, "InvalidAuthenticationToken")


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ({}, "AuthenticationFailed"),
        ({"Authorization": "Basic abc"}, "AuthenticationFailed"),
        ({"Authorization": "Bearer abc.def"}, "InvalidAuthenticationToken"),
    ],
)
async def test_arm_refuses_a_request_without_our_token(
    bench: Bench, header: dict[str, str], code: str
) -> None:
    trust = ssl.create_default_context(cafile=str(bench.emulator.ca))
    async with httpx.AsyncClient(verify=trust) as http:
        url = f"{bench.emulator.url}{bench.emulator.cluster.id}?api-version=2026-08-01"
        answer = await http.get(url, headers=header)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, code)
    assert answer.headers["WWW-Authenticate"].startswith("Bearer ")


async def test_the_environment_of_a_pod_is_all_that_a_default_credential_needs(
    start: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster(tenant="22222222-2222-2222-2222-222222222222", client="provisioner")
    async with start(cluster=cluster) as bench:
        monkeypatch.setenv("AZURE_AUTHORITY_HOST", f"{bench.emulator.url}/")
        monkeypatch.setenv("AZURE_TENANT_ID", cluster.tenant)
        monkeypatch.setenv("AZURE_CLIENT_ID", cluster.client)
        monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(start.token_file))
        async with DefaultAzureCredential(connection_verify=str(bench.emulator.ca)) as credential:
            token = await credential.get_token("https://management.azure.com/.default")
        assert token.expires_on - time.time() > 86_000


async def test_discovery_points_at_the_emulator_itself(bench: Bench) -> None:
    trust = ssl.create_default_context(cafile=str(bench.emulator.ca))
    async with httpx.AsyncClient(verify=trust, base_url=bench.emulator.url) as http:
        openid = (await http.get("/tenant/v2.0/.well-known/openid-configuration")).json()
        instance = (await http.get("/common/discovery/instance")).json()
    assert openid["token_endpoint"] == f"{bench.emulator.url}/tenant/oauth2/v2.0/token"
    assert instance["tenant_discovery_endpoint"].startswith(bench.emulator.url)
