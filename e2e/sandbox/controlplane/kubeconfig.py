"""Writes kubeconfig files that name one cluster and one user."""

import base64
from pathlib import Path

import yaml

from sandbox.controlplane.pki import Credential

CLUSTER = "sandbox"


def with_certificate(path: Path, *, url: str, ca: Path, user: str, credential: Credential) -> None:
    """Writes a kubeconfig for a user who shows a client certificate, kept in files of its own."""
    login = {
        "client-certificate": str(credential.certificate),
        "client-key": str(credential.key),
    }
    _write(path, url, {"certificate-authority": str(ca)}, user, login)


def portable(path: Path, *, url: str, ca: Path, user: str, credential: Credential) -> None:
    """Writes a kubeconfig that holds all it needs, for use on another machine."""
    login = {
        "client-certificate-data": _encoded(credential.certificate),
        "client-key-data": _encoded(credential.key),
    }
    _write(path, url, {"certificate-authority-data": _encoded(ca)}, user, login)


def with_token(path: Path, *, url: str, ca: Path, user: str, token: str) -> None:
    """Writes a kubeconfig whose token lies in a file beside it, where clients read it again."""
    token_file = path.with_suffix(".token")
    _write_private(token_file, token)
    _write(path, url, {"certificate-authority": str(ca)}, user, {"tokenFile": str(token_file)})


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _write(path: Path, url: str, trust: dict[str, str], user: str, login: dict[str, str]) -> None:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": CLUSTER, "cluster": {"server": url, **trust}}],
        "users": [{"name": user, "user": login}],
        "contexts": [{"name": CLUSTER, "context": {"cluster": CLUSTER, "user": user}}],
        "current-context": CLUSTER,
    }
    _write_private(path, yaml.safe_dump(config, sort_keys=False))


def _write_private(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)
