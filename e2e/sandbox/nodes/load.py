"""Chooses a node driver by name.

Invariant: a driver is imported when it is asked for, so that the ones which need root, a control
plane or the model runtime cost nothing where they are not used.
"""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sandbox.nodes.driver import NodeDriver, NoNodes

DRIVERS: Final = {
    "none": "pools without Nodes",
    "simulated": "Node objects only; their pods are kwok's",
    "process": "Nodes whose pods run as processes of this machine",
    "kubelet": "a real containerd and kubelet for each Node (needs root)",
}


@dataclass(frozen=True)
class DriverOptions:
    """What a driver may need.

    Attributes:
        kubeconfig: admin access to the cluster.
        folder: where the driver may keep files of its own.
        sandbox: the sandbox's folder.
        ready_seconds: from a registered Node to a Ready one, on the wall clock.
        runtime_python: the interpreter of the model runtime.
    """

    kubeconfig: Path | None
    folder: Path
    sandbox: Path
    ready_seconds: float
    runtime_python: Path


async def load(name: str, options: DriverOptions) -> NodeDriver:
    """Returns the driver of that name, ready for use; the caller closes it.

    Raises:
        controlkit.errors.ControlError: the cluster can't be reached with this kubeconfig.
    """
    if name == "none":
        return NoNodes()
    module = importlib.import_module(f"sandbox.nodes.{name}")
    driver: NodeDriver
    if name == "kubelet":
        driver = module.KubeletDriver(options.sandbox)
    else:
        driver = await module.connect(options)
    return driver
