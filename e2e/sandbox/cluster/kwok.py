"""Starts kwok, which plays the kubelets of simulated nodes as `stages.yaml` says."""

from pathlib import Path

from sandbox.cluster.ground import Ground
from sandbox.processes import clean_environment

STAGES = Path(__file__).with_name("stages.yaml")
POD_CIDR = "10.244.0.0/16"
LEASE_SECONDS = 40
"""As long as a kubelet's; without kwok, nodes are NotReady after it."""


def start(ground: Ground) -> None:
    """Starts kwok; a Node takes part while it carries kwok's annotation."""
    arguments = (
        f"--kubeconfig={ground.kubeconfig}",
        f"--config={STAGES}",
        "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node",
        f"--node-lease-duration-seconds={LEASE_SECONDS}",
        "--node-ip=127.0.0.1",
        f"--cidr={POD_CIDR}",
        "--v=WARN",
    )
    ground.start("kwok", [str(ground.bin / "kwok"), *arguments], clean_environment())
