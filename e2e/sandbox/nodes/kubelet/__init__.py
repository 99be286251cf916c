"""Level 2: nodes that are a real containerd and kubelet, on this host, without a VM.

`host` makes this machine a host of nodes and ordinary again; `KubeletDriver` stands behind the
emulated AKS. Pods reach this host's programs at `host_address()`.
"""

from sandbox.controlplane.addresses import host_address
from sandbox.nodes.kubelet.driver import KubeletDriver, NotRegisteredError
from sandbox.nodes.kubelet.requirements import install_packages, obstacles, prerequisites
from sandbox.nodes.kubelet.settings import NotPreparedError

__all__ = [
    "KubeletDriver",
    "NotPreparedError",
    "NotRegisteredError",
    "host_address",
    "install_packages",
    "obstacles",
    "prerequisites",
]
