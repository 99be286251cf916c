"""Starts, finds and ends emulated VMs on this host.

A VM is known by the command line of its processes, which names its folder: there is no record
that could be lost or grow old, so what a crash left behind is found as surely as what runs.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from sandbox.errors import SandboxError
from sandbox.nodes.kubelet import machine
from sandbox.processes import clean_environment, start_time

END_SECONDS = 10.0
EXEC_TRIES = 50
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where Debian has what VMs run; a user's PATH may lack the half of it."""

_UNSHARE = ("unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc")


@dataclass(frozen=True)
class VM:
    """An emulated VM; all it has on disk is in `folder`."""

    folder: Path
    log: Path

    def start(self) -> None:
        """Boots what the folder describes.

        The VM is no child of ours, nor of anyone who would end with us: it outlives its starter.
        """
        program = (sys.executable, "-I", machine.__file__)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            subprocess.run(
                ["setsid", "--fork", *_UNSHARE, *program, str(self.folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=clean_environment(PATH=SYSTEM_PATH),
                check=True,
            )

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
        return processes(lambda argv: _vm_folder(argv) == self.folder)


def end_all(folder: Path) -> None:
    """Ends every VM whose own folder is, or was, in `folder`."""
    end(processes(lambda argv: (found := _vm_folder(argv)) is not None and found.parent == folder))


def _vm_folder(argv: list[str]) -> Path | None:
    """The folder that a VM's process names last, behind the program; None for other processes."""
    program = Path(machine.__file__).name
    return Path(argv[-1]) if len(argv) > 2 and Path(argv[-2]).name == program else None


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
    entries = (entry for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [int(entry.name) for entry in entries if (argv := _argv(entry)) and match(argv)]


def _argv(entry: Path) -> list[str]:
    """The command line of a process; empty for the kernel's own and for those that ended."""
    try:
        # For a moment in its exec, a process has a program and no command line yet.
        for _ in range(EXEC_TRIES):
            if text := os.fsdecode((entry / "cmdline").read_bytes()):
                return text.rstrip("\0").split("\0")
            (entry / "exe").readlink()  # fails where there never will be a command line
            time.sleep(0.001)
    except OSError:
        pass
    return []
