"""The command lines of etcd, the API server, the controller manager and the scheduler.

Pure: from a `Layout` to arguments, so that the flags can be read in one place.
"""

from dataclasses import dataclass
from pathlib import Path

from sandbox.controlplane.pki import Authority, Credential

SERVICE_CIDR = "10.96.0.0/16"
KUBERNETES_SERVICE = "10.96.0.1"
ISSUER = "https://kubernetes.default.svc"


@dataclass(frozen=True)
class Ports:
    """The ports of one control plane."""

    etcd: int
    apiserver: int
    controller_manager: int
    scheduler: int


@dataclass(frozen=True)
class Layout:
    """Where one control plane keeps its files, and where it listens."""

    folder: Path
    bin: Path
    ports: Ports
    bind: str
    advertise: str

    @property
    def pki(self) -> Path:
        """The folder of keys and certificates."""
        return self.folder / "pki"

    @property
    def url(self) -> str:
        """The API server's address on this host."""
        return f"https://{self.bind}:{self.ports.apiserver}"

    @property
    def etcd_url(self) -> str:
        """The etcd server's address on this host."""
        return f"http://127.0.0.1:{self.ports.etcd}"

    def log(self, program: str) -> Path:
        """The log file of a program."""
        return self.folder / "log" / f"{program}.log"

    def kubeconfig(self, user: str) -> Path:
        """The kubeconfig file of one of the control plane's own users."""
        return self.folder / ("kubeconfig" if user == "admin" else f"pki/{user}.kubeconfig")


def serving_certificate(authority: Authority, layout: Layout) -> Credential:
    """Issues the certificate that all servers of the control plane show."""
    kubernetes = ("kubernetes", "kubernetes.default", "kubernetes.default.svc")
    return authority.issue(
        "kube-apiserver",
        hosts=("localhost", *kubernetes, "kubernetes.default.svc.cluster.local"),
        addresses=("127.0.0.1", KUBERNETES_SERVICE, layout.advertise),
    )


def etcd(layout: Layout, _: Authority) -> list[str]:
    """The command that runs etcd, on loopback and without a flush per write."""
    return [
        str(layout.bin / "etcd"),
        f"--data-dir={layout.folder / 'data' / 'etcd'}",
        f"--listen-client-urls={layout.etcd_url}",
        f"--advertise-client-urls={layout.etcd_url}",
        "--listen-peer-urls=http://127.0.0.1:0",  # a cluster of one never calls itself
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def apiserver(layout: Layout, authority: Authority) -> list[str]:
    """The command that runs kube-apiserver with RBAC, node authorization and token issuing."""
    serving = serving_certificate(authority, layout)
    kubelet_client = authority.issue(
        "kube-apiserver-kubelet-client", organizations=("system:masters",)
    )
    private, public = authority.signing_key("service-accounts")
    return [
        str(layout.bin / "kube-apiserver"),
        f"--etcd-servers={layout.etcd_url}",
        f"--bind-address={layout.bind}",
        f"--secure-port={layout.ports.apiserver}",
        f"--advertise-address={layout.advertise}",
        f"--service-cluster-ip-range={SERVICE_CIDR}",
        f"--client-ca-file={authority.credential.certificate}",
        f"--tls-cert-file={serving.certificate}",
        f"--tls-private-key-file={serving.key}",
        f"--kubelet-client-certificate={kubelet_client.certificate}",
        f"--kubelet-client-key={kubelet_client.key}",
        # Without it, logs and exec look the node's name up in DNS.
        "--kubelet-preferred-address-types=InternalIP",
        f"--service-account-issuer={ISSUER}",
        f"--service-account-signing-key-file={private}",
        f"--service-account-key-file={public}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        "--profiling=false",
    ]


def controller_manager(layout: Layout, authority: Authority) -> list[str]:
    """The command that runs kube-controller-manager."""
    return [
        str(layout.bin / "kube-controller-manager"),
        "--use-service-account-credentials",
        f"--service-account-private-key-file={authority.signing_key('service-accounts')[0]}",
        f"--root-ca-file={authority.credential.certificate}",
        f"--cluster-signing-cert-file={authority.credential.certificate}",
        f"--cluster-signing-key-file={authority.credential.key}",
        f"--service-cluster-ip-range={SERVICE_CIDR}",
        *_client_flags(layout, authority, "kube-controller-manager"),
        f"--secure-port={layout.ports.controller_manager}",
    ]


def scheduler(layout: Layout, authority: Authority) -> list[str]:
    """The command that runs kube-scheduler."""
    return [
        str(layout.bin / "kube-scheduler"),
        *_client_flags(layout, authority, "kube-scheduler"),
        f"--secure-port={layout.ports.scheduler}",
    ]


def _client_flags(layout: Layout, authority: Authority, user: str) -> list[str]:
    serving = serving_certificate(authority, layout)
    return [
        f"--kubeconfig={layout.kubeconfig(user)}",
        "--authentication-skip-lookup",  # only /healthz is ever asked of them
        "--leader-elect=false",  # there is one of each
        # The default of 20 calls a second would hide our own controllers' speed in a storm.
        "--kube-api-qps=500",
        "--kube-api-burst=1000",
        "--bind-address=127.0.0.1",
        f"--tls-cert-file={serving.certificate}",
        f"--tls-private-key-file={serving.key}",
        "--profiling=false",
    ]
