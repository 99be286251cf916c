import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sandbox import tools

FAKE_GO = """#!/bin/sh
echo built >> "$BUILDS"
sleep 0.2
while [ "$1" != -o ]; do shift; done
printf '#!/bin/sh\\n' > "$2" && chmod +x "$2"
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with an empty cache whose Go notes each build in the file `builds`."""
    go = tmp_path / "path" / "go"
    go.parent.mkdir()
    go.write_text(FAKE_GO)
    go.chmod(0o755)
    monkeypatch.setenv("PATH", f"{go.parent}:/usr/bin:/bin")
    monkeypatch.setenv("BUILDS", str(tmp_path / "builds"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    return tmp_path


def builds(machine: Path) -> int:
    return len((machine / "builds").read_text().splitlines())


def test_one_build_makes_every_program_and_is_kept(machine: Path) -> None:
    folder = tools.binaries()
    assert all(os.access(folder / name, os.X_OK) for name in (*tools.PROGRAMS, "pause"))
    assert tools.binaries() == folder
    assert builds(machine) == 2  # the programs, and pause


def test_callers_at_the_same_time_build_once(machine: Path) -> None:
    callers = [threading.Thread(target=tools.binaries) for _ in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert builds(machine) == 2


def test_assets_are_taken_when_they_hold_all_that_is_needed(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assets = machine / "assets"
    assets.mkdir()
    for name in tools.CONTROL_PLANE:
        (assets / name).touch(mode=0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets))
    assert tools.binaries(tools.CONTROL_PLANE) == assets
    assert tools.binaries() != assets


def test_a_failed_build_shows_its_last_words_and_leaves_no_half_folder(machine: Path) -> None:
    (machine / "path" / "go").write_text("#!/bin/sh\necho no space left >&2\nexit 1\n")
    with pytest.raises(tools.ToolsError, match=r"(?s)failed with status 1.*no space left"):
        tools.binaries()
    (machine / "path" / "go").write_text(FAKE_GO)
    assert (tools.binaries() / "etcd").exists()


def test_a_machine_without_go_is_told_what_to_install(machine: Path) -> None:
    (machine / "path" / "go").unlink()
    with pytest.raises(tools.ToolsError, match=r"Install Go >= 1.26 .* or set KUBEBUILDER_ASSETS"):
        tools.binaries()


def test_importing_the_plugin_starts_and_loads_nothing() -> None:
    probe = "import sys, sandbox.pytest_plugin; print([m for m in ('httpx', 'yaml') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
