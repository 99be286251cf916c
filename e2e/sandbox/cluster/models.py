"""Starts the model hub from which the pods of the sandbox download weights and datasets."""

import sys

from sandbox import tools
from sandbox.cluster.azure import RUNTIME_PYTHON
from sandbox.cluster.ground import Ground
from sandbox.errors import SandboxError
from sandbox.processes import clean_environment

BUILD_SECONDS = 240.0
"""The first start makes the tiny model and dataset; later ones find it in the cache."""


def ensure_runtime() -> None:
    """Raises SandboxError when the environment that makes and serves models is not installed."""
    if not RUNTIME_PYTHON.exists():
        raise SandboxError(
            f"pods that really run need the model server's environment, and {RUNTIME_PYTHON} is"
            " missing; install it with `make setup-runtimes`"
        )


async def start(ground: Ground, *, host: str, port: int) -> str:
    """Starts the hub, waits until it answers, and returns its address."""
    url = f"http://{host}:{port}"
    command = (
        *(sys.executable, "-m", "sandbox.hub"),
        f"--folder={tools.cache_folder() / 'tiny-model'}",
        f"--dataset={tools.cache_folder() / 'tiny-chats.parquet'}",
        f"--build-with={RUNTIME_PYTHON}",
        f"--host={host}",
        f"--port={port}",
    )
    hub = ground.start("hub", command, clean_environment())
    await ground.answers(hub, f"{url}/", seconds=BUILD_SECONDS)
    ground.state.endpoints["hub"] = url
    return url
