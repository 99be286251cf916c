"""Starts kwok, which plays the kubelets of simulated nodes as `stages.yaml` says."""

from pathlib import Path

from sandbox.cluster.ground import Ground
from sandbox.processes import clean_environment

STAGES = Path(__file__).with_name("stages.yaml")
POD_CIDR = "10.244.0.0/16"
LEASE_SECONDS = 40
"""As long as a kubelet's; without kwok, nodes are NotReady after it."""


def start(ground: Ground) -> None:
    """Starts kwok until `down`."""
    ground.start("kwok", command(ground.bin, ground.kubeconfig), clean_environment())


def command(programs: Path, kubeconfig: Path) -> tuple[str, ...]:
    """Returns the command; a Node takes part that carries kwok's annotation from the first."""
    return (
        str(programs / "kwok"),
        f"--kubeconfig={kubeconfig}",
        f"--config={STAGES}",
        "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node",
        f"--node-lease-duration-seconds={LEASE_SECONDS}",
        "--node-ip=127.0.0.1",
        f"--cidr={POD_CIDR}",
        "--v=WARN",
    )
