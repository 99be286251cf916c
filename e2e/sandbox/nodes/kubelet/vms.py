"""Starts, finds and ends emulated VMs on this host.

A VM is known by the command line of its processes, which names its folder: there is no record
that could be lost or grow old, so what a crash left behind is found as surely as what runs.
"""

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from sandbox.errors import SandboxError
from sandbox.nodes.kubelet import machine
from sandbox.processes import Process, clean_environment, spawn, start_time

END_SECONDS = 10.0
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where Debian has what VMs run; a user's PATH may lack the half of it."""

_UNSHARE = ("unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc")


@dataclass(frozen=True)
class VM:
    """An emulated VM; all it has on disk is in `folder`."""

    folder: Path
    log: Path

    def start(self) -> Process:
        """Boots what the folder describes; the VM outlives the calling process."""
        program = [sys.executable, "-I", machine.__file__, str(self.folder)]
        environment = clean_environment(PATH=SYSTEM_PATH)
        command = [*_UNSHARE, *program]
        return spawn(self.folder.name, command, log=self.log, env=environment, guarded=False)

    def runs(self) -> bool:
        """Says whether a process of the VM is there."""
        return bool(self._pids())

    def kill(self) -> None:
        """Cuts the power: returns when no process of the VM is left, at once when none runs.

        Raises:
            SandboxError: some are left after 10 s.
        """
        end(self._pids())

    def wipe(self) -> None:
        """Removes the VM's disk."""
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def _pids(self) -> list[int]:
        wanted = str(self.folder)
        return processes(lambda argv: machine.__file__ in argv and argv[-1] == wanted)


def end(pids: Iterable[int]) -> None:
    """Kills processes and waits until the kernel has let go of them.

    The first process of a PID namespace lets go only when all others in it are gone.

    Raises:
        SandboxError: some are left after 10 s.
    """
    # With its start time a pid names one process for ever, however long we wait.
    left = {pid: token for pid in pids if (token := start_time(pid))}
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + END_SECONDS
    while left := {pid: token for pid, token in left.items() if start_time(pid) == token}:
        if time.monotonic() > deadline:
            raise SandboxError(f"processes {sorted(left)} were killed and did not end")
        time.sleep(0.01)


def processes(match: Callable[[list[str]], bool]) -> list[int]:
    """The processes whose command line `match` accepts."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            argv = os.fsdecode((entry / "cmdline").read_bytes()).rstrip("\0").split("\0")
        except OSError:
            continue  # it ended while we looked
        if match(argv):
            found.append(int(entry.name))
    return found
