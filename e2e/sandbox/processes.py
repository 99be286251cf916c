"""Starts programs in process groups of their own and ends them for certain.

A process is known by its pid and its start time together, so a recycled pid is never killed.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sandbox.errors import SandboxError

TAIL_LINES = 20


class ProcessDiedError(SandboxError):
    """A program that has to run ended; the text names it and shows the end of its log."""


@dataclass(frozen=True)
class Process:
    """A started program: our child, or one that an earlier command left running."""

    name: str
    pid: int
    started: str
    log: Path
    argv: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    child: subprocess.Popen[bytes] | None = field(default=None, compare=False, repr=False)

    def alive(self) -> bool:
        """Says whether this very process still runs."""
        if self.child is not None:
            return self.child.poll() is None
        return start_time(self.pid) == self.started

    def ensure_alive(self) -> None:
        """Raises ProcessDiedError with the end of the log when the process has ended."""
        if not self.alive():
            raise ProcessDiedError(self.obituary())

    def obituary(self) -> str:
        """Says how the process ended and what it said last."""
        status = "" if self.child is None else f" with {_exit_text(self.child.returncode)}"
        return f"{self.name} ended{status}; the end of {self.log}:\n{self.log_tail()}"

    def log_tail(self, lines: int = TAIL_LINES) -> str:
        """Returns the last lines of the log."""
        if not self.log.exists():
            return "(no log)"
        with self.log.open("rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - 64 * 1024))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])

    def send(self, number: signal.Signals) -> None:
        """Sends a signal to the process alone; no effect when it has ended."""
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def stop(self, *, grace: float = 10.0) -> None:
        """Ends the process and its group: SIGTERM, and SIGKILL after `grace` seconds."""
        if not self.alive():
            return
        self._signal_group(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self.ended()
        self._signal_group(signal.SIGKILL)
        await self.ended()

    async def ended(self) -> None:
        """Returns once the process has ended, however long that takes."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        if not self.alive():  # asked after the handle is held: now the pid cannot change hands
            os.close(handle)
            return
        loop, readable = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(handle, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(handle)
            os.close(handle)
        if self.child is not None:
            self.child.wait()

    def _signal_group(self, number: signal.Signals) -> None:
        # The group outlives its leader while it has members, and its number is not reused before.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)


def spawn(
    name: str,
    argv: Sequence[str],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    guarded: bool = True,
) -> Process:
    """Starts a program in its own session, its output appended to `log`.

    A guarded program is killed by the kernel when the thread that started it ends, however that
    happens (even SIGKILL): nothing that a test starts can outlive it. Start guarded programs from
    the main thread. `env` is the whole environment; by default a clean one.
    """
    env = clean_environment() if env is None else env
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [*_guard(), *argv] if guarded else list(argv)
    with log.open("ab") as output:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=env,
            cwd=cwd,
            start_new_session=True,
        )
    return Process(name, child.pid, start_time(child.pid) or "", log, tuple(argv), env, child)


def writing_to(folder: Path) -> list[Process]:
    """Finds the leaders of process groups whose output goes to a log in the folder, by its name.

    The kernel knows this from the moment a program exists. What its starter writes down, it writes
    a moment later, and a starter that is killed in that moment never does.
    """
    found = []
    for entry in Path("/proc").iterdir():
        # Processes end while one looks, and other users' do not show what they write to.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            if not entry.name.isdecimal() or os.getpgid(pid := int(entry.name)) != pid:
                continue
            log = (entry / "fd" / "1").readlink()
            if log.parent == folder and (started := start_time(pid)) is not None:
                found.append(Process(log.stem, pid, started, log))
    return found


def clean_environment(**more: str) -> dict[str, str]:
    """Returns the few variables of ours that a program needs to run at all, and `more`.

    A developer's proxy, credentials and KUBECONFIG are no business of the sandbox's programs.
    """
    kept = ("PATH", "HOME", "USER", "LANG", "TMPDIR", "XDG_CACHE_HOME")
    return {name: os.environ[name] for name in kept if name in os.environ} | more


def start_time(pid: int) -> str | None:
    """Returns a token that no other process with this pid ever had, or None if none runs."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The program's name, in parentheses, may hold spaces: fields are counted behind it.
    state, *fields = stat[stat.rindex(")") + 2 :].split()
    if state in "ZX":
        return None
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}/{fields[18]}"


def _guard() -> tuple[str, ...]:
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise RuntimeError("`setpriv` is not on PATH; install the package util-linux")
    return (setpriv, "--pdeathsig", "KILL", "--")


def _exit_text(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
