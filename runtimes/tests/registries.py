"""Real registries for tests: Debian's docker-registry on a port of its own, with the login that a test needs."""

import base64
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID
from harness import serving_asgi, wait_until
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

PROGRAMS = {"skopeo": "skopeo", "docker-registry": "docker-registry"}
INSTALL = Path(__file__).parents[2] / "e2e" / "install-packages.sh"

USER = "user"
PASSWORD = "secret:with:colons"
HTPASSWD = f"{USER}:$2b$05$abcdefghijklmnopqrstuuj5DaoYnUxZnCxcpQ8vG/UCDkJIC0IC2\n"
REFRESH_TOKEN = "refresh-token-of-the-tests"
ISSUER, SERVICE = "tests", "registry.tests"


def need_programs() -> None:
    """Install what is missing, as root on Debian; elsewhere say what to install."""
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        packages = [PROGRAMS[name] for name in missing]
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            pytest.skip(f"needs the programs {' and '.join(missing)}; install them, or run as root")
        subprocess.run([INSTALL, *packages], check=True, timeout=300)


@dataclass
class Registry:
    """One registry, and the ways into it."""

    host: str
    folder: Path
    tokens: "TokenServer | None" = None

    def reference(self, name: str) -> str:
        return f"{self.host}/{name}"

    def digest(self, name: str, tag: str) -> str:
        """What the registry itself says, on a registry without login."""
        accept = "application/vnd.oci.image.manifest.v1+json"
        answer = httpx.head(
            f"http://{self.host}/v2/{name}/manifests/{tag}", headers={"Accept": accept}
        )
        assert answer.status_code == 200, answer.text
        return answer.headers["Docker-Content-Digest"]


@contextmanager
def registry(folder: Path, login: str = "none") -> Iterator[Registry]:
    """A registry with `login` none, basic or bearer."""
    need_programs()
    folder.mkdir(parents=True, exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    made = Registry(f"127.0.0.1:{port}", folder)
    with ExitStack() as stack:
        auth: dict[str, Any] = {}
        if login == "basic":
            (folder / "htpasswd").write_text(HTPASSWD)
            auth = {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}}
        if login == "bearer":
            made.tokens = TokenServer.new(folder / "root.pem")
            realm = stack.enter_context(serving_asgi(made.tokens.application()))
            auth = {
                "token": {
                    "realm": f"{realm}/token",
                    "service": SERVICE,
                    "issuer": ISSUER,
                    "rootcertbundle": str(folder / "root.pem"),
                }
            }
        config = {
            "version": 0.1,
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": str(folder / "blobs")}},
            "http": {"addr": made.host, "secret": "tests"},
            "auth": auth,
        }
        (folder / "config.json").write_text(json.dumps(config))
        log = stack.enter_context((folder / "log").open("wb"))
        process = stack.enter_context(
            subprocess.Popen(
                ["docker-registry", "serve", folder / "config.json"], stdout=log, stderr=log
            )
        )
        stack.callback(process.kill)
        wait_until(lambda: answers(made.host))
        yield made


def answers(host: str) -> bool:
    try:
        return httpx.get(f"http://{host}/v2/").status_code in {200, 401}
    except httpx.TransportError:
        return False


@dataclass
class TokenServer:
    """Gives out tokens as registries in the cloud do: for a password by GET, for a refresh token by POST."""

    key: rsa.RSAPrivateKey
    chain: str
    asked: list[str] = field(default_factory=list)

    @classmethod
    def new(cls, certificate_file: Path) -> "TokenServer":
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ISSUER)])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .sign(key, hashes.SHA256())
        )
        certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        der = certificate.public_bytes(serialization.Encoding.DER)
        return cls(key, base64.b64encode(der).decode())

    def application(self) -> Starlette:
        return Starlette(routes=[Route("/token", self._answer, methods=["GET", "POST"])])

    async def _answer(self, request: Request) -> Response:
        if request.method == "POST":
            form = {
                name: values[0]
                for name, values in parse_qs((await request.body()).decode()).items()
            }
            allowed = form.get("refresh_token") == REFRESH_TOKEN
            scope, field_name = form.get("scope", ""), "access_token"
            self.asked.append(form.get("grant_type", ""))
        else:
            basic = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            allowed = request.headers.get("authorization") == f"Basic {basic}"
            scope, field_name = request.query_params.get("scope", ""), "token"
            self.asked.append("password")
        if not allowed:
            return JSONResponse({"errors": [{"code": "UNAUTHORIZED"}]}, 401)
        return JSONResponse({field_name: self.token(scope), "expires_in": 300})

    def token(self, scope: str) -> str:
        """A signed token for a scope such as `repository:team/adapter:pull,push`."""
        access = []
        if scope:
            kind, name, actions = scope.split(":")
            access = [{"type": kind, "name": name, "actions": actions.split(",")}]
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "sub": USER,
            "aud": SERVICE,
            "exp": now + 300,
            "nbf": now - 10,
            "iat": now,
            "jti": str(now),
            "access": access,
        }
        header = {"typ": "JWT", "alg": "RS256", "x5c": [self.chain]}
        signed = ".".join(_encoded(json.dumps(part).encode()) for part in (header, claims))
        signature = self.key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_encoded(signature)}"


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def docker_config(file: Path, key: str, **entry: str) -> Path:
    """A pull secret's file with one entry."""
    file.write_text(json.dumps({"auths": {key: entry}}))
    return file


def basic(user: str = USER, password: str = PASSWORD) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()
