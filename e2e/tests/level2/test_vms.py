import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.nodes.kubelet.settings import NotPreparedError, Paths, Settings
from sandbox.nodes.kubelet.vms import end, processes

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def test_a_process_is_found_by_its_command_line_and_ended(tmp_path: Path) -> None:
    with subprocess.Popen([*SLEEP, str(tmp_path)]) as child:
        found = processes(lambda argv: argv[-1] == str(tmp_path))
        end(found)

        assert found == [child.pid]
        assert child.wait(1) == -9


def test_ending_nothing_is_no_error() -> None:
    end([])
    end([2**22 - 1])


def test_the_driver_finds_what_level_2_prepared(tmp_path: Path) -> None:
    settings = Settings("https://127.0.0.1:1", "10.0.0.4", "/bin", "/disk", "/env")
    paths = Paths(tmp_path)

    settings.save(paths)

    assert Settings.load(paths) == settings


def test_a_sandbox_without_level_2_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(NotPreparedError, match="make sandbox-up LEVEL=2"):
        Settings.load(Paths(tmp_path))
