"""Measures the memory of each controller at rest, in a sandbox of its own or in the one that is up."""

import argparse
import time

import psutil

from sandbox import cli
from sandbox.cluster.state import PARTS, State, sandbox_folder
from sandbox.errors import SandboxError

TARGET_MB = 120


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's options."""
    parser.add_argument(
        "--settle", type=float, default=30.0, help="seconds of rest before measuring (default 30)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Prints one line per controller.

    Raises:
        SandboxError: the controllers do not run as processes of this sandbox.
    """
    brought_up = State.load(sandbox_folder()) is None
    if brought_up and cli.main(["up", "--level", "1"]) != 0:
        raise SandboxError("no sandbox to measure in: see above")
    try:
        time.sleep(arguments.settle)
        _print_memory()
    finally:
        if brought_up:
            cli.main(["down"])
    return 0


def _print_memory() -> None:
    state = State.load(sandbox_folder())
    for name in PARTS:
        program = state.programs.get(name) if state is not None else None
        if program is None:
            raise SandboxError(f"{name} is no process of this sandbox: measure at level 1, with it")
        resident = psutil.Process(program.pid).memory_info().rss / 1e6
        print(f"{name:<22} {resident:6.1f} MB resident (target {TARGET_MB} MB)")
