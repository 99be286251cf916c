import argparse
import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from sandbox import cli
from sandbox.cluster import up
from sandbox.cluster.state import Program, Settings, State, shell_exports, sole_owner
from sandbox.errors import SandboxError
from sandbox.processes import Process, spawn


def settings(*words: str) -> Settings:
    parser = argparse.ArgumentParser()
    up.configure(parser)
    return up.parse(parser.parse_args(words))


def sandbox(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"SANDBOX_DIR": str(folder)}
    command = [sys.executable, "-m", "sandbox", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_level_2_has_real_nodes_unless_told_otherwise() -> None:
    assert settings("--level", "2").nodes == "kubelet"
    assert settings().nodes == "simulated"


def test_parts_are_left_out_in_any_order_and_spelling_with_spaces() -> None:
    both = ("gpu-provisioner", "workspace-controller")
    assert settings("--without", "workspace-controller, gpu-provisioner").without == both


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--without", "etcd"], "names etcd; the parts are gpu-provisioner, workspace-controller"),
        (["--level", "2", "--nodes", "simulated"], "level 2 cannot have simulated nodes"),
        (["--nodes", "kubelet"], "level 1 cannot have kubelet nodes"),
        (["--speed", "0"], "--speed 0 is not between"),
        (["--node-class", "KWOKNodeClass"], "write it GROUP/KIND/NAME"),
    ],
)
def test_settings_that_cannot_be_are_named(words: list[str], complaint: str) -> None:
    with pytest.raises(SandboxError, match=complaint):
        settings(*words)


@pytest.mark.parametrize("command", cli.COMMANDS, ids=lambda command: command.verb)
def test_every_verb_explains_itself(
    command: cli.Command, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([command.verb, "--help"])
    assert ended.value.code == 0
    assert "usage: python -m sandbox" in capsys.readouterr().out


def test_an_unknown_verb_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    answer = sandbox(tmp_path, "destroy")
    assert answer.returncode == 2
    assert "there is no verb 'destroy'" in answer.stderr
    assert "down" in answer.stderr


def test_without_a_sandbox_down_has_nothing_to_do_and_status_says_so(tmp_path: Path) -> None:
    assert sandbox(tmp_path, "down").returncode == 0
    answer = sandbox(tmp_path, "status")
    assert answer.returncode == 1
    assert "there is no sandbox in" in answer.stdout


def test_a_damaged_state_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("{")
    answer = sandbox(tmp_path, "down")
    assert answer.returncode == 1
    assert f"error: {tmp_path / 'state.json'} is damaged" in answer.stderr


def test_a_second_command_waits_its_turn(tmp_path: Path) -> None:
    with sole_owner(tmp_path):
        answer = sandbox(tmp_path, "down")
    assert answer.returncode == 1
    assert "another command" in answer.stderr


def test_shell_exports_survive_a_shell(tmp_path: Path) -> None:
    (tmp_path / "env").write_text(shell_exports({"ODD": "it's $HOME", "PATH": "/some bin"}))
    script = f'. {tmp_path / "env"}; printf \'%s|%s\' "$ODD" "$PATH"'
    shell = subprocess.run(
        ["sh", "-c", script], env={"PATH": "/usr/bin"}, capture_output=True, text=True, check=True
    )
    assert shell.stdout == "it's $HOME|/some bin:/usr/bin"


@pytest.fixture
async def sleeper(tmp_path: Path) -> AsyncIterator[Process]:
    process = spawn("sleeper", ["sleep", "600"], log=tmp_path / "log" / "sleeper.log")
    yield process
    await process.stop(grace=0.0)


async def test_what_a_killed_up_left_is_ended_by_down(tmp_path: Path, sleeper: Process) -> None:
    state = State(settings=Settings(), programs={"sleeper": Program.of(sleeper)})
    state.save(tmp_path)
    answer = await asyncio.to_thread(sandbox, tmp_path, "down")
    assert answer.returncode == 0, answer.stderr
    async with asyncio.timeout(5):
        await sleeper.ended()
    assert not (tmp_path / "state.json").exists()
    assert (tmp_path / "log" / "sleeper.log").exists()


async def test_a_recycled_pid_is_never_killed(tmp_path: Path, sleeper: Process) -> None:
    other = Program.of(sleeper).model_copy(update={"started": "some boot/12345"})
    State(settings=Settings(), programs={"sleeper": other}).save(tmp_path)
    assert (await asyncio.to_thread(sandbox, tmp_path, "down")).returncode == 0
    assert sleeper.alive()


async def test_restart_runs_the_same_command_again(tmp_path: Path, sleeper: Process) -> None:
    State(settings=Settings(), programs={"sleeper": Program.of(sleeper)}).save(tmp_path)
    answer = await asyncio.to_thread(sandbox, tmp_path, "restart", "sleeper", "--kill")
    assert answer.returncode == 0, answer.stderr
    state = State.load(tmp_path)
    assert state is not None
    again = state.programs["sleeper"]
    assert again.pid != sleeper.pid
    assert psutil.Process(again.pid).cmdline() == ["sleep", "600"]
    await again.process().stop(grace=0.0)


async def test_status_shows_the_last_words_of_what_ended(tmp_path: Path) -> None:
    log = tmp_path / "log" / "poet.log"
    poet = spawn("poet", ["sh", "-c", "echo out of rhymes; exit 3"], log=log)
    async with asyncio.timeout(5):
        await poet.ended()
    State(settings=Settings(), ready=True, programs={"poet": Program.of(poet)}).save(tmp_path)
    answer = await asyncio.to_thread(sandbox, tmp_path, "status")
    assert answer.returncode == 1
    assert "poet ended" in answer.stdout
    assert "out of rhymes" in answer.stdout


async def test_a_program_that_ignores_sigterm_is_killed_after_its_grace(tmp_path: Path) -> None:
    script = "trap '' TERM; echo deaf; while :; do sleep 0.05; done"
    stubborn = spawn("stubborn", ["sh", "-c", script], log=tmp_path / "log")
    while "deaf" not in stubborn.log_tail():
        stubborn.ensure_alive()
        await asyncio.sleep(0.02)
    await stubborn.stop(grace=0.3)
    assert not stubborn.alive()
    assert stubborn.child is not None
    assert stubborn.child.returncode == -signal.SIGKILL
