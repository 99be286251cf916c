"""Builds the images of both controllers and of the model server, whole, with buildah.

Needs root and Debian's buildah and mmdebstrap. The model server's image holds its 5 GB of packages;
the sandbox itself does without that image, as its nodes mount the packages.
"""

import argparse
import asyncio

from sandbox.images.prepare import build_all


def configure(parser: argparse.ArgumentParser) -> None:
    """There is nothing to choose."""
    parser.epilog = "With another builder: docker build -f workspace-controller/Dockerfile ."


def run(_: argparse.Namespace) -> int:
    """Builds the images and says how to push them."""
    commands = asyncio.run(build_all())
    print("built; to push one, fill in the registry and the name:")
    for command in commands:
        print(f"  {command}")
    return 0
