"""Chooses a node driver by name.

Invariant: a driver is imported when it is asked for, so that the ones which need root, a control
plane or the model runtime cost nothing where they are not used.
"""

import importlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
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


@asynccontextmanager
async def loaded(name: str, options: DriverOptions) -> AsyncIterator[NodeDriver]:
    """Provides the driver of that name, and closes it at the end.

    Raises:
        controlkit.errors.ControlError: the cluster can't be reached with this kubeconfig.
    """
    async with AsyncExitStack() as stack:
        driver: NodeDriver
        match name:
            case "none":
                driver = NoNodes()
            case "kubelet":
                driver = importlib.import_module("sandbox.nodes.kubelet").KubeletDriver(
                    options.sandbox
                )
            case _:
                module = importlib.import_module(f"sandbox.nodes.{name}")
                driver = await stack.enter_async_context(module.connected(options))
        stack.push_async_callback(driver.close)
        yield driver
