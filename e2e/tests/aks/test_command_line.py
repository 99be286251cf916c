"""The command line: what it refuses, and how it ends."""

import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.aks.arguments import parsed
from sandbox.aks.store import Store


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ([], "--state"),
        (["--state=x", "--cert=c"], "--cert and --key go together"),
        (["--state=x", "--node-driver=simulated"], "needs --kubeconfig"),
        (["--state=x", "--node-driver=real"], "choose from"),
        (["--state=x", "--speed=0"], "speed"),
        (["--state=x", "--join-seconds=-1"], "timings.join"),
    ],
)
def test_flags_that_cannot_work_are_refused_by_name(
    flags: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parsed(flags)
    assert caught.value.code == 2
    assert named in capsys.readouterr().err


def test_the_help_shows_how_to_begin(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parsed(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "SSL_CERT_FILE" in text
    assert "/_emulator/faults" in text


def test_flags_become_settings() -> None:
    arguments = parsed(
        [
            "--state=/s",
            "--speed=10",
            "--throttle=off",
            "--operation-seconds=20",
            "--location=westus2",
        ]
    )
    assert (arguments.settings.speed, arguments.settings.throttle) == (10, False)
    assert arguments.settings.timings.operation == 20
    assert arguments.cluster.location == "westus2"
    assert arguments.pki == Path("/s/pki")
    assert arguments.driver_options.ready_seconds == 1.4


def test_a_folder_in_use_ends_the_program_with_one_line(tmp_path: Path) -> None:
    store = Store(tmp_path)
    argv = [sys.executable, "-m", "sandbox.aks", "--state", str(tmp_path)]
    ended = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
    store.close()
    assert ended.returncode == 1
    assert ended.stderr == (
        f"error: --state {tmp_path}: another emulator uses this folder; stop it or name another one\n"
    )
