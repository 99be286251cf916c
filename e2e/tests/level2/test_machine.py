import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from sandbox.nodes.kubelet.machine import Daemon

# Not the first process of a namespace here, so it ends alone; what it started ends by itself.
SUPERVISE = """
import signal
from sandbox.nodes.kubelet import machine
from sandbox.nodes.kubelet.machine import Daemon
signal.pthread_sigmask(signal.SIG_BLOCK, machine.WAKE_SIGNALS)
machine._supervise(({daemons},))
"""


def test_a_daemon_that_ends_is_started_again(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    daemon = Daemon("once", ("sh", "-c", f"echo start >> {starts}"), str(tmp_path / "log"))

    with _supervised(daemon) as supervisor:
        _until(lambda: starts.exists() and len(starts.read_text().splitlines()) >= 2)
        supervisor.send_signal(signal.SIGTERM)

        assert supervisor.wait(5) == 0


def test_a_daemon_waits_for_what_it_needs(tmp_path: Path) -> None:
    needed, started = tmp_path / "socket", tmp_path / "started"
    daemon = Daemon("late", ("touch", str(started)), str(tmp_path / "log"), after=str(needed))

    with _supervised(daemon) as supervisor:
        time.sleep(0.5)
        early = started.exists()
        needed.touch()
        _until(started.exists)
        supervisor.send_signal(signal.SIGTERM)

        assert not early
        assert supervisor.wait(5) == 0


def _supervised(daemon: Daemon) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", SUPERVISE.format(daemons=repr(daemon))])


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
