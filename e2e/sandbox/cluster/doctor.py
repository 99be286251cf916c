"""Says what this machine can run, and what it lacks for more; status 1 unless level 1 can run."""

import argparse
import os
import shutil

from sandbox import tools
from sandbox.nodes.kubelet import obstacles, prerequisites


def configure(parser: argparse.ArgumentParser) -> None:
    """There is nothing to choose."""
    parser.epilog = "As root, `make demo` installs the Debian packages that level 2 lacks."


def run(_: argparse.Namespace) -> int:
    """Prints one line per level, and one per missing thing."""
    one = missing_for_level_1()
    _print("level 1 (control plane, simulated nodes)", one)
    two = [*one, *obstacles()]
    if packages := prerequisites():
        two.append(f"Debian packages are missing: {' '.join(packages)}")
    _print("level 2 (real nodes)", two)
    return 1 if one else 0


def missing_for_level_1() -> list[str]:
    """Says in sentences what level 1 lacks here."""
    lacks = []
    if shutil.which("setpriv") is None:
        lacks.append("the program setpriv is missing: install the package util-linux")
    if not hasattr(os, "pidfd_open"):
        lacks.append("the sandbox needs Linux 5.3 or newer")
    if not tools.available():
        lacks.append("Kubernetes is not built yet and Go is missing: install Go >= 1.26")
    return lacks


def _print(level: str, lacks: list[str]) -> None:
    print(f"{level}: {'cannot run yet' if lacks else 'can run'}")
    for sentence in lacks:
        print(f"  - {sentence}")
