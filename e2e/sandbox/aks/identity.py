"""The token endpoint of Entra ID, as far as a workload identity needs it.

Invariant: a token is only given to the configured tenant and client, and ARM accepts exactly the
tokens that were given out and have not expired. Signatures of assertions are not verified.
"""

import base64
import binascii
import hashlib
import hmac
import json
import uuid
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qs

from sandbox.aks.errors import known_error
from sandbox.aks.world import World

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class Tokens:
    """Gives out access tokens and recognises them."""

    def __init__(self, world: World) -> None:
        self._world = world

    def answer(self, tenant: str, form_text: str) -> dict[str, Any]:
        """Returns the body of a successful token request.

        Raises:
            ArmError: with an AADSTS number, when tenant, client or assertion do not fit.
        """
        form = {name: values[-1] for name, values in parse_qs(form_text).items()}
        cluster = self._world.cluster
        if tenant.lower() != cluster.tenant.lower():
            raise known_error("aad-tenant", wanted=tenant)
        if form.get("grant_type") != "client_credentials":
            raise known_error("aad-grant", wanted=form.get("grant_type", ""))
        client = form.get("client_id", "")
        if client.lower() != cluster.client.lower():
            raise known_error("aad-client", wanted=client)
        self._check_assertion(form)
        lifetime = self._world.settings.token_lifetime
        return {
            "token_type": "Bearer",
            "expires_in": lifetime,
            "ext_expires_in": lifetime,
            "access_token": self._issue(lifetime),
        }

    def check(self, authorization: str) -> None:
        """Accepts the Authorization header of a request.

        Raises:
            ArmError: 401, when it is missing, not ours or has expired.
        """
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise self._refused("unauthorized")
        payload, _, signature = token.partition(".")
        if not hmac.compare_digest(signature, self._sign(payload)):
            raise self._refused("token-invalid")
        claims = _decoded(payload)
        if claims["exp"] <= self._world.now():
            raise self._refused("token-expired", expiry=claims["exp"], now=self._world.now())

    def _refused(self, name: str, **values: object) -> Exception:
        error = known_error(name, **values)
        authority = f"https://login.microsoftonline.com/{self._world.cluster.tenant}"
        error.headers["WWW-Authenticate"] = (
            f'Bearer authorization_uri="{authority}", error="invalid_token",'
            f' error_description="{error.body["message"]}"'
        )
        return error

    def _check_assertion(self, form: Mapping[str, str]) -> None:
        assertion = form.get("client_assertion", "")
        if not assertion or form.get("client_assertion_type") != ASSERTION_TYPE:
            raise known_error("aad-assertion")
        claims = _decoded(assertion.split(".")[1]) if assertion.count(".") == 2 else {}
        expiry = claims.get("exp")
        if isinstance(expiry, int | float) and expiry <= self._world.now():
            raise known_error("aad-assertion-expired")
        wanted = self._world.settings.federated_subject
        if wanted and not claims:
            raise known_error("aad-assertion")
        if wanted and claims.get("sub") != wanted:
            raise known_error("aad-subject", subject=claims.get("sub", ""))

    def _issue(self, lifetime: int) -> str:
        claims = {"exp": self._world.now() + lifetime, "jti": uuid.uuid4().hex}
        payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
        return f"{payload}.{self._sign(payload)}"

    def _sign(self, payload: str) -> str:
        key = self._world.secret().encode()
        return hmac.new(key, payload.encode(), hashlib.sha256).hexdigest()


def openid_configuration(base_url: str, tenant: str) -> dict[str, Any]:
    """Returns the OpenID discovery document of a tenant."""
    root = f"{base_url}/{tenant}"
    return {
        "issuer": f"{root}/v2.0",
        "authorization_endpoint": f"{root}/oauth2/v2.0/authorize",
        "token_endpoint": f"{root}/oauth2/v2.0/token",
        "jwks_uri": f"{root}/discovery/v2.0/keys",
        "response_types_supported": ["token"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
    }


def instance_discovery(base_url: str, tenant: str, host: str) -> dict[str, Any]:
    """Returns the answer to an authority that wants to know whether it is a real one."""
    return {
        "tenant_discovery_endpoint": f"{base_url}/{tenant}/v2.0/.well-known/openid-configuration",
        "api-version": "1.1",
        "metadata": [{"preferred_network": host, "preferred_cache": host, "aliases": [host]}],
    }


def _decoded(part: str) -> dict[str, Any]:
    """Returns the claims in a part of a token; empty when it is not one."""
    try:
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (binascii.Error, ValueError):
        return {}
    return claims if isinstance(claims, dict) else {}
