"""Go modules of fixed versions: downloaded, checked, built once."""

import json
import threading
from pathlib import Path

import pytest

from sandbox import tools
from sandbox.gomodules import GoModule

FAKE_GO = """#!/bin/sh
case "$1" in
mod) cat "$ANSWER" ;;
install) echo built >> "$BUILDS"; sleep 0.2; touch "$GOBIN/tool"; chmod +x "$GOBIN/tool" ;;
esac
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose Go answers what the file `answer` holds, and notes its builds."""
    go = tmp_path / "path" / "go"
    go.parent.mkdir()
    go.write_text(FAKE_GO)
    go.chmod(0o755)
    monkeypatch.setenv("PATH", f"{go.parent}:/usr/bin:/bin")
    monkeypatch.setenv("BUILDS", str(tmp_path / "builds"))
    monkeypatch.setenv("ANSWER", str(tmp_path / "answer"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def module(machine: Path, **answer: str) -> GoModule:
    """A module, one of its own for each test, and what Go says of it."""
    told = {"Sum": "h1:right=", "Dir": "/modules/it", **answer}
    (machine / "answer").write_text(json.dumps(told))
    return GoModule(f"example.com/{machine.name}", "v1.2.3", "h1:right=")


def test_a_module_is_where_go_put_it(machine: Path) -> None:
    assert module(machine).source() == Path("/modules/it")


def test_other_content_than_was_written_down_is_refused(machine: Path) -> None:
    strange = module(machine, Sum="h1:wrong=")
    with pytest.raises(tools.ToolsError, match="h1:wrong= instead of h1:right="):
        strange.program("tool")
    assert not (machine / "builds").exists()


def test_what_go_complains_of_is_passed_on(machine: Path) -> None:
    with pytest.raises(tools.ToolsError, match="no such module"):
        module(machine, Error="no such module").source()


def test_callers_at_the_same_time_build_once(machine: Path) -> None:
    wanted = module(machine)
    callers = [threading.Thread(target=wanted.program, args=("tool",)) for _ in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert wanted.program("tool").is_file()
    assert (machine / "builds").read_text().count("built") == 1
