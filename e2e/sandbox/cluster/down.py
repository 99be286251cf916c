"""Ends the sandbox and removes everything it made, its logs aside.

Does the whole of it whatever state the sandbox is in: also after an `up` that was killed half-way.
"""

import argparse
import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

from sandbox.cluster.interrupts import run_interruptibly
from sandbox.cluster.progress import Progress
from sandbox.cluster.state import State, sandbox_folder, sole_owner
from sandbox.nodes.kubelet import cleanup
from sandbox.processes import writing_to

# Their data goes too, so there is nothing they could still save; the last one goes last.
_CONTROL_PLANE = ("kwok", "kube-scheduler", "kube-controller-manager", "kube-apiserver", "etcd")
_TRACES = ("data", "pki", "kubeconfig", "*env", "state.json")


def configure(parser: argparse.ArgumentParser) -> None:
    """There is nothing to choose."""
    parser.epilog = "Logs stay in .sandbox/log/ until the next `up`."


def run(_: argparse.Namespace) -> int:
    """Ends the sandbox of this checkout."""
    folder = sandbox_folder()
    with sole_owner(folder):
        if State.load(folder) is None:
            print(f"there is no sandbox in {folder}")
            return 0
        run_interruptibly(bring_down(folder, Progress().say))
    return 0


async def bring_down(folder: Path, say: Callable[[str], None]) -> None:
    """Ends all programs, then real nodes, then the control plane; removes the folder's contents."""
    state = State.load(folder)
    if state is None:
        return
    known = {program.pid for program in state.programs.values()}
    for stray in writing_to(folder / "log"):
        if stray.pid not in known:
            say(f"ending {stray.name}")
            await stray.stop(grace=0.0)
    programs = [each for name, each in state.programs.items() if name not in _CONTROL_PLANE]
    for program in reversed(programs):
        say(f"ending {program.name}")
        await program.process().stop(grace=15.0)
    if state.settings.level == 2:
        say("removing the real nodes")
        await asyncio.to_thread(cleanup, folder)
    say("ending the control plane")
    for name in _CONTROL_PLANE:
        if name in state.programs:
            await state.programs[name].process().stop(grace=0.0)
    remove_traces(folder)
    say("the sandbox is down")


def remove_traces(folder: Path) -> None:
    """Deletes the files of a sandbox that has ended, all but its logs."""
    for path in [path for pattern in _TRACES for path in folder.glob(pattern)]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
