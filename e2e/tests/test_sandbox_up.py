import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from sandbox.cluster.state import REPOSITORY, Settings, State
from sandbox.processes import spawn

pytestmark = pytest.mark.control_plane

EXAMPLE = REPOSITORY / "examples" / "inference" / "kaito_workspace_phi_3.yaml"
PROGRAMS = {
    *("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"),
    *("kwok", "emulator", "gpu-provisioner", "workspace-controller"),
}


class Sandbox:
    """One sandbox in a folder of its own, used as a person does: by its commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def _environment(self) -> dict[str, str]:
        return os.environ | {"SANDBOX_DIR": str(self.folder)}

    def begin(self, *words: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "sandbox", *words],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *words: str, seconds: float = 90) -> tuple[int, str]:
        with self.begin(*words) as command:
            said, _ = command.communicate(timeout=seconds)
        return command.returncode, said

    def kubectl(self, *words: str, seconds: float = 30) -> str:
        """As a person would, from a shell that has sourced the env file."""
        script = f'. {self.folder}/env && exec kubectl "$@"'
        done = subprocess.run(
            ["sh", "-c", script, "sh", *words],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def get(self, *words: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = json.loads(self.kubectl("get", *words, "-o", "json"))["items"]
        return items

    def state(self) -> State:
        state = State.load(self.folder)
        assert state is not None
        return state

    def processes(self) -> list[str]:
        """Command lines of all processes that name the folder: its own, whatever their parent."""
        mark = f"{self.folder}/"
        commands = (each.info["cmdline"] or [] for each in psutil.process_iter(["cmdline"]))
        return [" ".join(words) for words in commands if any(mark in word for word in words)]


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    sandbox = Sandbox(tmp_path_factory.mktemp("sandbox"))
    status, said = sandbox.run("up", "--speed", "200")
    assert status == 0, said
    yield sandbox
    assert sandbox.run("down")[0] == 0


def test_up_returns_when_all_of_it_is_ready(sandbox: Sandbox) -> None:
    assert set(sandbox.state().programs) == PROGRAMS
    status, said = sandbox.run("status")
    assert status == 0
    assert "level 1, simulated nodes, speed 200, claims as machines: ready" in said


def test_one_workspace_lives_and_leaves_nothing(sandbox: Sandbox) -> None:
    sandbox.kubectl("apply", "-f", str(EXAMPLE))
    wait = ("--for=condition=WorkspaceReady", "workspace", "--all", "--timeout=40s")
    sandbox.kubectl("wait", *wait, seconds=60)
    (machine,) = sandbox.get("machines")
    (node,) = sandbox.get("nodes")
    assert machine["status"]["nodeName"] == node["metadata"]["name"]
    assert node["status"]["allocatable"]["nvidia.com/gpu"] == "1"
    sandbox.kubectl("delete", "-f", str(EXAMPLE), seconds=60)
    assert sandbox.get("machines") == []
    deadline = time.monotonic() + 20
    while sandbox.get("nodes") and time.monotonic() < deadline:
        time.sleep(0.2)
    assert sandbox.get("nodes") == []


def test_a_second_up_with_the_same_settings_changes_nothing(sandbox: Sandbox) -> None:
    before = sandbox.state()
    status, said = sandbox.run("up", "--speed", "200")
    assert status == 0
    assert "already up" in said
    assert sandbox.state() == before


def test_a_second_up_with_other_settings_says_to_go_down_first(sandbox: Sandbox) -> None:
    status, said = sandbox.run("up", "--claim-api", "nodeclaim")
    assert status == 1
    assert "make sandbox-down" in said


def test_a_dead_controller_shows_in_status_and_restart_brings_it_back(sandbox: Sandbox) -> None:
    program = sandbox.state().programs["gpu-provisioner"]
    os.kill(program.pid, signal.SIGKILL)
    status, said = sandbox.run("status")
    assert (status, "gpu-provisioner ended" in said) == (1, True), said
    assert sandbox.run("restart", "gpu-provisioner")[0] == 0
    assert sandbox.run("status")[0] == 0


def test_the_controllers_have_no_more_rights_than_their_charts_give(sandbox: Sandbox) -> None:
    account = "system:serviceaccount:kaito-workspace:workspace-sa"
    environment = sandbox.state().programs["workspace-controller"].env
    login = f"--kubeconfig={environment['KUBECONFIG']}"
    assert account in sandbox.kubectl("auth", "whoami", login)
    rights = sandbox.kubectl("auth", "can-i", "--list", login)
    assert "workspaces.kaito.sh" in rights
    assert "*.*" not in rights


def test_after_a_restart_of_the_machine_up_makes_a_fresh_sandbox(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path)
    assert sandbox.run("up", "--without", "gpu-provisioner,workspace-controller")[0] == 0
    state = sandbox.state()
    for program in state.programs.values():
        os.kill(program.pid, signal.SIGKILL)
    status, said = sandbox.run("up", "--without", "gpu-provisioner,workspace-controller")
    assert status == 0, said
    assert sandbox.state().ended() == []
    assert sandbox.run("down")[0] == 0


@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_up_leaves_nothing_running(tmp_path: Path, blow: signal.Signals) -> None:
    sandbox = Sandbox(tmp_path)
    with sandbox.begin("up") as up:
        assert up.stdout is not None
        while "emulated AKS …" not in up.stdout.readline():
            assert up.poll() is None
        assert sandbox.processes() != []
        up.send_signal(blow)
        said, _ = up.communicate(timeout=30)
    assert up.returncode == 130, said
    assert sandbox.processes() == []
    assert not (tmp_path / "state.json").exists()


def test_down_ends_what_a_killed_up_left(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path)
    with sandbox.begin("up") as up:
        assert up.stdout is not None
        while "emulated AKS …" not in up.stdout.readline():
            assert up.poll() is None
        up.kill()
    assert sandbox.processes() != []
    assert sandbox.run("down")[0] == 0
    assert sandbox.processes() == []
    assert {path.name for path in tmp_path.iterdir()} == {"lock", "log"}


def test_down_ends_what_a_killed_up_had_no_time_to_write_down(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path)
    State(settings=Settings()).save(tmp_path)
    log = tmp_path / "log" / "emulator.log"
    stray = spawn("emulator", ["sleep", "600"], log=log, guarded=False)
    status, said = sandbox.run("down")
    assert (status, "ending emulator" in said) == (0, True)
    assert not stray.alive()


def test_an_up_that_cannot_work_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "emulator.log").mkdir()  # the emulator's output can go nowhere
    status, said = sandbox.run("up")
    assert status == 1
    assert said.splitlines()[-1].startswith("error: ")
    assert "emulator.log" in said
    assert sandbox.processes() == []


def test_without_a_part_it_tells_how_to_start_that_part(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path)
    status, said = sandbox.run("up", "--without", "gpu-provisioner")
    try:
        assert status == 0, said
        assert f"start it yourself: `. {tmp_path}/gpu-provisioner.env`" in said
        assert "gpu-provisioner" not in sandbox.state().programs
        assert "machines" in sandbox.kubectl("api-resources")
    finally:
        assert sandbox.run("down")[0] == 0
