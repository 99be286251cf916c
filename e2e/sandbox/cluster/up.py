"""Brings the sandbox up and returns when all of it is ready.

Level 1 needs no privileges: a real control plane, an emulated AKS, simulated nodes, and the
controllers as processes. Level 2 (root) boots real nodes and runs the controllers in pods.
A sandbox that cannot be brought up leaves nothing running.
"""

import argparse
import os
from pathlib import Path
from typing import get_args

from sandbox.cluster.build import build
from sandbox.cluster.down import bring_down, remove_traces
from sandbox.cluster.interrupts import run_interruptibly
from sandbox.cluster.progress import Progress
from sandbox.cluster.state import (
    PARTS,
    Nodes,
    Settings,
    State,
    sandbox_folder,
    sole_owner,
)
from sandbox.errors import SandboxError


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares what can be chosen, with the defaults of `Settings`."""
    parser.add_argument("--level", type=int, choices=(1, 2), default=1)
    parser.add_argument(
        "--nodes",
        choices=get_args(Nodes),
        help="what a VM is: an object (simulated), an object whose pods run as local processes"
        " (process), or containerd and kubelet (kubelet); default: simulated, at level 2 kubelet",
    )
    parser.add_argument(
        "--speed", type=float, default=10.0, help="how much faster AKS is than life (default 10)"
    )
    parser.add_argument(
        "--without",
        default="",
        metavar="PART,PART",
        help=f"parts that you start yourself or do not need: {', '.join(PARTS)}",
    )
    parser.add_argument(
        "--claim-api",
        choices=("machine", "nodeclaim"),
        default="machine",
        help="what the workspace controller claims nodes with (default machine)",
    )
    parser.add_argument(
        "--node-class",
        default="",
        metavar="GROUP/KIND/NAME",
        help="the class that its NodeClaims refer to (default: the gpu-provisioner's)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Brings the sandbox up, unless it is up with the same settings."""
    settings = parse(arguments)
    folder = sandbox_folder()
    progress = Progress()
    with sole_owner(folder):
        state = State.load(folder)
        # All of it ended: the machine was restarted, and what is left is only files.
        if state is not None and state.ready and len(state.ended()) < len(state.programs):
            return _already_up(state, settings)
        run_interruptibly(bring_up(folder, settings, progress))
    progress.say(f"the sandbox is ready; use it from a shell: . {os.path.relpath(folder / 'env')}")
    return 0


def parse(arguments: argparse.Namespace) -> Settings:
    """Checks the options together.

    Raises:
        SandboxError: an option has a value that cannot be, or two do not go together.
    """
    without = tuple(sorted(filter(None, arguments.without.replace(" ", "").split(","))))
    if unknown := set(without) - set(PARTS):
        raise SandboxError(
            f"--without names {', '.join(sorted(unknown))}; the parts are {', '.join(PARTS)}"
        )
    nodes = arguments.nodes or ("kubelet" if arguments.level == 2 else "simulated")
    if (nodes == "kubelet") != (arguments.level == 2):
        raise SandboxError(
            f"level {arguments.level} cannot have {nodes} nodes: real nodes (kubelet) are what"
            " level 2 is; level 1 has simulated or process"
        )
    if arguments.node_class and len(arguments.node_class.split("/")) != 3:
        raise SandboxError(f"--node-class {arguments.node_class!r}: write it GROUP/KIND/NAME")
    if not 0 < arguments.speed <= 100_000:
        raise SandboxError(f"--speed {arguments.speed:g} is not between 0 and 100000")
    return Settings(
        level=arguments.level,
        nodes=nodes,
        speed=arguments.speed,
        without=without,
        claim_api=arguments.claim_api,
        node_class=arguments.node_class,
    )


def _already_up(state: State, settings: Settings) -> int:
    if state.settings != settings:
        raise SandboxError(
            f"the sandbox is up with other settings ({state.settings.describe()});"
            " take it down first: make sandbox-down"
        )
    if ended := [program.name for program in state.ended()]:
        raise SandboxError(
            f"the sandbox is up, but {', '.join(ended)} ended; look with `make sandbox-status`,"
            " take it down with `make sandbox-down`"
        )
    print(f"the sandbox is already up: {settings.describe()}")
    return 0


async def bring_up(folder: Path, settings: Settings, progress: Progress) -> None:
    """Makes a fresh sandbox in `folder`; what a killed `up` left there is ended first."""
    await bring_down(folder, progress.say)
    remove_traces(folder)
    for old in (folder / "log").glob("*.log"):
        old.unlink()
    state = State(settings=settings)
    state.save(folder)
    try:
        await build(folder, state, progress)
    except BaseException:
        progress.say("that failed; ending what was started")
        await bring_down(folder, progress.say)
        raise
    state.ready = True
    state.save(folder)
