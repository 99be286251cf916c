"""What docker-compose.yaml runs once, before and after the control plane: keys, then charts.

Safe to repeat: a second `docker compose up` keeps the keys and renews the tokens.
"""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from sandbox.cluster import controllers
from sandbox.cluster.azure import TOKEN_AUDIENCE, Azure
from sandbox.cluster.charts import PROVISIONER, WORKSPACE, Helm, Release
from sandbox.cluster.state import Settings, shell_exports
from sandbox.controlplane import kubeconfig
from sandbox.controlplane.admin import Admin
from sandbox.controlplane.commands import KUBERNETES_SERVICE
from sandbox.controlplane.pki import Authority, Credential
from sandbox.errors import SandboxError

# Paths in the container, all of them volumes.
KEYS = Path("/keys")
ACCOUNTS = Path("/accounts")
HOST = Path("/host")
CHARTS = Path("/charts")

APISERVER = "https://kube-apiserver:6443"
EMULATOR = Azure("https://aks-emulator:8443")
CONTROLLERS_UID = 65532
"""The user of the controllers' images."""
READY_SECONDS = 120.0
USERS = {
    "kube-controller-manager": "system:kube-controller-manager",
    "kube-scheduler": "system:kube-scheduler",
}


def make_keys() -> None:
    """Makes the cluster's keys, and a kubeconfig for the host."""
    authority = Authority.open(KEYS)
    kubernetes = ("kubernetes", "kubernetes.default", "kubernetes.default.svc")
    authority.issue(
        "kube-apiserver",
        hosts=("kube-apiserver", "localhost", *kubernetes),
        addresses=("127.0.0.1", KUBERNETES_SERVICE),
    )
    authority.issue("kube-apiserver-kubelet-client", organizations=("system:masters",))
    authority.issue("aks-emulator", hosts=("aks-emulator", "localhost"), addresses=("127.0.0.1",))
    authority.signing_key("service-accounts")
    ca = authority.credential.certificate
    logins = {name: authority.issue(user) for name, user in USERS.items()}
    for name, credential in (logins | {"admin": _admin(authority)}).items():
        path = KEYS / f"{name}.kubeconfig"
        kubeconfig.with_certificate(path, url=APISERVER, ca=ca, user=name, credential=credential)
    _write_host_kubeconfig(authority)
    _publish(ACCOUNTS / "ca.crt", ca.read_text())


def _admin(authority: Authority) -> Credential:
    return authority.issue("sandbox-admin", organizations=("system:masters",))


def _write_host_kubeconfig(authority: Authority) -> None:
    path = HOST / "kubeconfig"
    kubeconfig.portable(
        path,
        url=f"https://127.0.0.1:{os.environ['KUBERNETES_PORT']}",
        ca=authority.credential.certificate,
        user="admin",
        credential=_admin(authority),
    )
    (HOST / "ca.crt").write_bytes(authority.credential.certificate.read_bytes())
    # Whoever has the checkout is who runs kubectl.
    owner = CHARTS.stat()
    for file in (HOST, path, HOST / "ca.crt"):
        os.chown(file, owner.st_uid, owner.st_gid)


async def install() -> None:
    """Installs the charts without pods, and gives each controller its account and environment.

    Raises:
        SandboxError: the API server was not ready in time, or helm refused.
    """
    authority = Authority.open(KEYS)
    ca = authority.credential.certificate
    admin = Admin.connect(APISERVER, ca, _admin(authority))
    await _ready(admin)
    helm = Helm(Path("/usr/local/bin/helm"), KEYS / "admin.kubeconfig", admin, CHARTS)
    values = controllers.workspace_values(Settings(), replicas=0, hub="")
    await helm.install(WORKSPACE, values | controllers.webhook_values("workspace-controller", 9443))
    await helm.install(PROVISIONER, controllers.provisioner_values(EMULATOR, replicas=0, ca=ca))
    token = await admin.token(
        PROVISIONER.service_account,
        PROVISIONER.namespace,
        seconds=controllers.TOKEN_SECONDS,
        audiences=(TOKEN_AUDIENCE,),
    )
    _publish(ACCOUNTS / "azure.token", token)
    identity = {
        "AZURE_FEDERATED_TOKEN_FILE": str(ACCOUNTS / "azure.token"),
        "SSL_CERT_FILE": str(ACCOUNTS / "ca.crt"),
    }
    await _equip(helm, WORKSPACE, "workspace-controller", {})
    await _equip(helm, PROVISIONER, "gpu-provisioner", identity)


async def _ready(admin: Admin) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while missing := await admin.missing():
        if time.monotonic() > deadline:
            raise SandboxError(f"not ready within {READY_SECONDS:.0f} s: {missing}")
        await asyncio.sleep(0.5)


async def _equip(helm: Helm, release: Release, name: str, own: Mapping[str, str]) -> None:
    """Writes a controller's kubeconfig, and the environment of the chart's Deployment."""
    account, namespace = release.service_account, release.namespace
    path = ACCOUNTS / f"{name}.kubeconfig"
    token = await helm.admin.token(account, namespace, seconds=controllers.TOKEN_SECONDS)
    kubeconfig.with_token(path, url=APISERVER, ca=ACCOUNTS / "ca.crt", user=account, token=token)
    for file in (path, path.with_suffix(".token")):
        os.chown(file, CONTROLLERS_UID, CONTROLLERS_UID)
    environment = await helm.environment(release) | {"KUBECONFIG": str(path), **own}
    _publish(ACCOUNTS / f"{name}.env", shell_exports(environment))


def _publish(path: Path, text: str) -> None:
    """Writes a file that the controllers can read."""
    path.touch(mode=0o600)
    path.write_text(text)
    os.chown(path, CONTROLLERS_UID, CONTROLLERS_UID)


def main() -> int:
    """Does one of the two jobs."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.compose", description=__doc__)
    parser.add_argument("job", choices=("keys", "install"))
    job = parser.parse_args().job
    try:
        if job == "keys":
            make_keys()
        else:
            asyncio.run(install())
    except SandboxError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{job}: done", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
