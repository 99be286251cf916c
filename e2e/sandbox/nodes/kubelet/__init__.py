"""Level 2: nodes that are a real containerd and kubelet, on this host, without a VM.

`Level2` brings nodes to a control plane, `KubeletDriver` stands behind the emulated AKS, `cleanup`
removes all of it. Pods reach this host's programs at `host_address()`.
"""

from sandbox.controlplane.addresses import host_address
from sandbox.nodes.kubelet.driver import KubeletDriver, NotRegisteredError
from sandbox.nodes.kubelet.level2 import Level2, cleanup
from sandbox.nodes.kubelet.requirements import install_packages, obstacles, prerequisites
from sandbox.nodes.kubelet.settings import NotPreparedError

__all__ = [
    "KubeletDriver",
    "Level2",
    "NotPreparedError",
    "NotRegisteredError",
    "cleanup",
    "host_address",
    "install_packages",
    "obstacles",
    "prerequisites",
]
