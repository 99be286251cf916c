"""The first process of an emulated VM: lays out its folders, runs its daemons, reaps its orphans.

It is PID 1 of PID, mount and UTS namespaces of its own, so when it ends, by whatever cause, the
kernel ends every process and undoes every mount of the VM: a VM can't leak. It reads
`machine.json` (a `Boot`) from the folder it is given and needs nothing but the standard library.
"""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

BOOT_FILE = "machine.json"
RESTART_SECONDS = 1.0
READY_SECONDS = 60.0
WAKE_SIGNALS = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True)
class Mount:
    """A host folder to show at another place inside the VM; mounted in the order given."""

    source: str
    target: str
    read_only: bool = False


@dataclass(frozen=True)
class Daemon:
    """A program that runs as long as the VM does; started again 1 s after it ends.

    `after` names a path that has to exist first, such as the socket of another daemon.
    """

    name: str
    argv: tuple[str, ...]
    log: str
    after: str = ""


@dataclass(frozen=True)
class Boot:
    """All that a VM is made of."""

    hostname: str
    mounts: tuple[Mount, ...]
    daemons: tuple[Daemon, ...]

    def save(self, folder: Path) -> None:
        """Writes the file that `load` reads."""
        (folder / BOOT_FILE).write_text(json.dumps(asdict(self), indent=2))

    @classmethod
    def load(cls, folder: Path) -> "Boot":
        """Reads what `save` wrote."""
        raw = json.loads((folder / BOOT_FILE).read_text())
        return cls(
            raw["hostname"],
            tuple(Mount(**each) for each in raw["mounts"]),
            tuple(Daemon(**{**each, "argv": tuple(each["argv"])}) for each in raw["daemons"]),
        )


def main(folder: Path) -> None:
    """Boots the VM that `folder` describes and runs it until SIGTERM."""
    boot = Boot.load(folder)
    # Blocked, these signals queue up for sigtimedwait: none is lost between two looks.
    signal.pthread_sigmask(signal.SIG_BLOCK, WAKE_SIGNALS)
    Path("/proc/sys/kernel/hostname").write_text(boot.hostname)
    # The kubelet's volumes must show up inside containerd's mounts, and nowhere else.
    _mount("--make-rshared", "/")
    _mount("-t", "tmpfs", "-o", "mode=755", "run", "/run")
    for each in boot.mounts:
        Path(each.target).mkdir(parents=True, exist_ok=True)
        _mount("--bind", each.source, each.target)
        if each.read_only:
            _mount("-o", "remount,bind,ro", each.target)
    _supervise(boot.daemons)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def _supervise(daemons: tuple[Daemon, ...]) -> None:
    due = dict.fromkeys(daemons, 0.0)
    running: dict[int, Daemon] = {}
    patience = time.monotonic() + READY_SECONDS
    while True:
        now = time.monotonic()
        for daemon in [each for each, when in due.items() if when <= now]:
            if not daemon.after or Path(daemon.after).exists():
                running[_start(daemon)] = daemon
                del due[daemon]
            elif now > patience:
                sys.exit(f"{daemon.name} waited {READY_SECONDS:.0f} s for {daemon.after}")
        woken = signal.sigtimedwait(WAKE_SIGNALS, 0.05 if due else 3600.0)
        if woken and woken.si_signo != signal.SIGCHLD:
            return
        for pid, status in _reap():
            if ended := running.pop(pid, None):
                code = os.waitstatus_to_exitcode(status)
                print(f"{ended.name} ended with status {code}; see {ended.log}", flush=True)
                due[ended] = time.monotonic() + RESTART_SECONDS


def _start(daemon: Daemon) -> int:
    log = os.open(daemon.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        return os.posix_spawnp(
            daemon.argv[0],
            daemon.argv,
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)],
            setsid=True,
            setsigmask=(),
        )
    finally:
        os.close(log)


def _reap() -> list[tuple[int, int]]:
    ended: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended.append((pid, status))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
