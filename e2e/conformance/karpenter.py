"""Upstream Karpenter with its kwok provider: built from its Go module, installed from its CRDs.

Invariant: what runs is the upstream program of a fixed version, unchanged; what is ours is the list
of VM sizes that it can be told.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from controlkit.errors import AlreadyExists
from controlkit.kube.client import KubeClient
from controlkit.kube.objects import Resource
from sandbox.aks.skus import Sku, all_skus
from sandbox.controlplane.addresses import free_ports
from sandbox.gomodules import GoModule
from sandbox.processes import clean_environment

MODULE: Final = GoModule(
    "sigs.k8s.io/karpenter", "v1.13.0", "h1:7/ZergHciATEZ/hubSe9S2fB4iYWcRZqrWIItupUjVM="
)
"""Of the last minor release that Go 1.26 builds."""

NODE_CLASS: Final = {"group": "karpenter.kwok.sh", "kind": "KWOKNodeClass", "name": "default"}
CLASSES: Final = Resource(
    "karpenter.kwok.sh", "v1alpha1", "kwoknodeclasses", "KWOKNodeClass", namespaced=False
)
CRDS: Final = Resource(
    "apiextensions.k8s.io",
    "v1",
    "customresourcedefinitions",
    "CustomResourceDefinition",
    namespaced=False,
)
HELP: Final = """\
Installs upstream Karpenter with its kwok provider into a cluster, and runs it until it is stopped.

The kwok provider makes Node objects in place of machines; Azure's VM sizes are what it offers.
"""
SYSTEM_NAMESPACE: Final = "kube-system"


def program() -> Path:
    """Returns the program, building it once.

    Raises:
        sandbox.tools.ToolsError: Go is missing, or the build failed.
    """
    return MODULE.program("kwok")


def environment(kubeconfig: Path, sizes: Path) -> dict[str, str]:
    """Returns what it is told by its environment, ports and election aside."""
    return {
        "KUBECONFIG": str(kubeconfig),
        "INSTANCE_TYPES_FILE_PATH": str(sizes),
        "SYSTEM_NAMESPACE": SYSTEM_NAMESPACE,
        "LEADER_ELECTION_NAMESPACE": SYSTEM_NAMESPACE,
        "KARPENTER_SERVICE": "karpenter",
        "DISABLE_CLUSTER_STATE_OBSERVABILITY": "true",
    }


async def install(client: KubeClient) -> None:
    """Applies its own CRDs, over ours where both have one, and makes its node class."""
    for manifest in crds():
        await client.apply(CRDS, manifest, force=True)
    await _make_class(client)


async def _make_class(client: KubeClient) -> None:
    while not await client.serves(CLASSES):
        pass  # the API server answers each question; it serves a new kind within a second
    try:
        await client.create(CLASSES, {"metadata": {"name": NODE_CLASS["name"]}, "spec": {}})
    except AlreadyExists:
        return


def crds() -> list[dict[str, Any]]:
    """Returns the CRDs of the module: NodeClaim, NodePool, NodeOverlay and the class of kwok."""
    source = MODULE.source()
    folders = (source / "pkg" / "apis" / "crds", source / "kwok" / "apis" / "crds")
    return [
        yaml.safe_load(path.read_text(encoding="utf-8"))
        for folder in folders
        for path in sorted(folder.glob("*.yaml"))
    ]


def write_sizes(path: Path) -> None:
    """Writes Azure's VM sizes in the form in which the kwok provider reads what it can offer."""
    path.write_text(json.dumps([_size(sku) for sku in all_skus().values()]), encoding="utf-8")


def _size(sku: Sku) -> dict[str, Any]:
    resources = {
        "cpu": str(sku.vcpus),
        "memory": f"{sku.memory_gib:g}Gi",
        "ephemeral-storage": "1Ti",
        **({"nvidia.com/gpu": str(sku.nvidia_gpus)} if sku.nvidia_gpus else {}),
    }
    requirements = {
        "karpenter.sh/capacity-type": "on-demand",
        "topology.kubernetes.io/zone": "eastus-1",
    }
    return {
        "name": sku.name,
        "architecture": "amd64",
        "operatingSystems": ["linux"],
        "resources": resources,
        "offerings": [
            {
                "Price": float(sku.vcpus),
                "Available": True,
                "Requirements": [
                    {"key": key, "operator": "In", "values": [value]}
                    for key, value in requirements.items()
                ],
            }
        ],
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Runs it on a cluster in the foreground; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m conformance.karpenter",
        description=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--kubeconfig", type=Path, required=True, metavar="FILE", help="admin access to the cluster"
    )
    kubeconfig = parser.parse_args(argv).kubeconfig
    command = str(program())
    asyncio.run(_install_from(kubeconfig))
    with tempfile.TemporaryDirectory(prefix="karpenter-") as folder:
        sizes = Path(folder) / "instance-types.json"
        write_sizes(sizes)
        ports = dict(
            zip(("HEALTH_PROBE_PORT", "METRICS_PORT"), map(str, free_ports(2)), strict=True)
        )
        told = environment(kubeconfig, sizes) | ports | {"DISABLE_LEADER_ELECTION": "true"}
        print(f"running {command}; stop it with Ctrl-C", flush=True)
        return subprocess.call([command], env=clean_environment(**told))


async def _install_from(kubeconfig: Path) -> None:
    client = await KubeClient.connect(
        user_agent="conformance", field_manager="conformance", kubeconfig=kubeconfig
    )
    async with client:
        await install(client)


if __name__ == "__main__":
    sys.exit(main())
