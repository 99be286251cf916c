"""Level 2: nodes that are a real containerd and kubelet, on this host, without a VM.

What a caller needs: `obstacles`, `prerequisites` and `install_packages` before, `Level2` to bring
nodes to a control plane, `KubeletDriver` behind the emulated AKS, `cleanup` after.
"""

from sandbox.controlplane.addresses import host_address
from sandbox.nodes.kubelet.driver import KubeletDriver, NotRegisteredError
from sandbox.nodes.kubelet.level2 import ForeignClusterError, Level2, cleanup
from sandbox.nodes.kubelet.requirements import install_packages, obstacles, prerequisites
from sandbox.nodes.kubelet.settings import NotPreparedError

__all__ = [
    "ForeignClusterError",
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
