"""Measures the seconds from nothing to a ready control plane, controllers included."""

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from sandbox import tools
from sandbox.controlplane import ControlPlane


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's options."""
    parser.add_argument("--runs", type=int, default=3, help="how often to measure (default 3)")


def run(arguments: argparse.Namespace) -> int:
    """Prints each run and the median."""
    tools.binaries()
    seconds = [asyncio.run(_once()) for _ in range(arguments.runs)]
    for number, each in enumerate(seconds, 1):
        print(f"run {number}: {each:.1f} s")
    print(f"control plane ready after {statistics.median(seconds):.1f} s (median; target 10 s)")
    return 0


async def _once() -> float:
    with tempfile.TemporaryDirectory(prefix="bench-control-plane-") as folder:
        began = time.monotonic()
        async with ControlPlane.start(Path(folder), controllers=True):
            return time.monotonic() - began
