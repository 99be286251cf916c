"""One Workspace from `kubectl apply` to a model's answer, and back to nothing, on show.

At level 2 a second act fine-tunes that model and serves the adapter. The demo brings a sandbox up and
takes it down again, however it ends.
"""

import argparse

from rich.console import Console

from sandbox.cluster.interrupts import run_interruptibly
from sandbox.cluster.state import REPOSITORY, sandbox_folder
from sandbox.demo.story import Stage, play
from sandbox.errors import SandboxError
from sandbox.nodes.kubelet import obstacles


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's options."""
    parser.add_argument(
        "--level",
        type=int,
        choices=(1, 2),
        help="1: the pod's command runs as a local process; 2: real containerd and kubelet nodes "
        "(root, Debian). Default: 2 where this machine can, else 1",
    )
    parser.add_argument(
        "--acts",
        type=int,
        choices=(1, 2),
        help="1: serve a model; 2: fine-tune it too, which needs level 2. Default: 2 at level 2",
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs the demo; exit status 0 when everything it shows was true."""
    console = Console(highlight=False)
    missing = obstacles()
    level: int = arguments.level or (1 if missing else 2)
    if level == 1 and missing:
        console.print(f"level 1: a local process stands in for the pod; {'; '.join(missing)}")
    acts: int = arguments.acts or level
    if acts > level:
        raise SandboxError("the second act needs real nodes: --level 2, as root on Debian")
    run_interruptibly(play(Stage(REPOSITORY, sandbox_folder(), level, acts), console))
    return 0
