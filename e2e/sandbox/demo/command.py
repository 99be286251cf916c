"""The verb `python -m sandbox demo`."""

import argparse
import asyncio
import sys
from pathlib import Path

from rich.console import Console

from sandbox.demo.follow import DemoError
from sandbox.demo.story import Stage, play
from sandbox.nodes.kubelet import obstacles

REPOSITORY = Path(__file__).parents[3]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's options."""
    parser.add_argument(
        "--level",
        type=int,
        choices=(1, 2),
        help="1: the pod's command runs as a local process; 2: real containerd and kubelet nodes "
        "(root, Debian). Default: 2 where this machine can, else 1",
    )


def run(options: argparse.Namespace, folder: Path) -> int:
    """Run the demo; exit status 0 when everything it shows was true."""
    console = Console(highlight=False)
    missing = obstacles()
    level = options.level or (1 if missing else 2)
    if level == 1 and missing:
        console.print(f"level 1: a local process stands in for the pod; {'; '.join(missing)}")
    try:
        asyncio.run(play(Stage(REPOSITORY, folder, level), console))
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: stopped; nothing was left running", file=sys.stderr)
        return 130
    return 0
