"""What a sandbox is made of, kept in its folder so that another command can end it.

A process is written down as soon as it exists; one that a killed `up` started and could not write
down any more is found by `down` all the same, by the log it writes to.
"""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict

from sandbox.errors import SandboxError
from sandbox.processes import Process

REPOSITORY = Path(__file__).resolve().parents[3]
PARTS = ("gpu-provisioner", "workspace-controller")

Nodes = Literal["simulated", "process", "kubelet"]


def sandbox_folder() -> Path:
    """Returns the folder of this checkout's sandbox; SANDBOX_DIR puts it elsewhere."""
    return Path(os.environ.get("SANDBOX_DIR") or REPOSITORY / ".sandbox").resolve()


class Settings(BaseModel):
    """What `up` was asked for."""

    model_config = ConfigDict(frozen=True)

    level: Literal[1, 2] = 1
    nodes: Nodes = "simulated"
    speed: float = 10.0
    without: tuple[str, ...] = ()
    claim_api: Literal["machine", "nodeclaim"] = "machine"
    node_class: str = ""
    """GROUP/KIND/NAME of the class that NodeClaims refer to; empty for the chart's default."""

    def describe(self) -> str:
        """The settings as a person would say them."""
        without = f", without {', '.join(self.without)}" if self.without else ""
        of_class = f" of {self.node_class}" if self.node_class else ""
        return (
            f"level {self.level}, {self.nodes} nodes, speed {self.speed:g},"
            f" claims as {self.claim_api}s{of_class}{without}"
        )


class Program(BaseModel):
    """A process of the sandbox as written down."""

    name: str
    pid: int
    started: str
    log: Path
    argv: tuple[str, ...]
    env: dict[str, str]

    @classmethod
    def of(cls, process: Process) -> Self:
        """Writes a process down."""
        return cls(
            name=process.name,
            pid=process.pid,
            started=process.started,
            log=process.log,
            argv=process.argv,
            env=dict(process.env),
        )

    def process(self) -> Process:
        """The process that was written down."""
        return Process(self.name, self.pid, self.started, self.log, self.argv, self.env)


class State(BaseModel):
    """A sandbox: `ready` once `up` has finished."""

    settings: Settings
    ready: bool = False
    programs: dict[str, Program] = {}
    endpoints: dict[str, str] = {}
    """URLs by what answers there."""

    @classmethod
    def load(cls, folder: Path) -> "State | None":
        """Returns the state kept in the folder, or None when there is no sandbox.

        Raises:
            SandboxError: the file is there and cannot be read as a state.
        """
        path = folder / "state.json"
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise SandboxError(
                f"{path} is damaged ({error}); end the processes it names and delete {folder}"
            ) from error

    def save(self, folder: Path) -> None:
        """Replaces the state kept in the folder, whole or not at all."""
        path = folder / "state.json"
        unfinished = path.with_suffix(".unfinished")
        unfinished.touch(mode=0o600)
        unfinished.write_text(self.model_dump_json(indent=2))
        unfinished.replace(path)

    def ended(self) -> list[Program]:
        """The programs that should run and do not."""
        return [each for each in self.programs.values() if not each.process().alive()]


@contextmanager
def sole_owner(folder: Path) -> Iterator[None]:
    """Keeps a second `up` or `down` away from the folder.

    Raises:
        SandboxError: another command is at work on this sandbox.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SandboxError(
                f"another command is bringing the sandbox in {folder} up or down; wait for it"
            ) from None
        yield


def shell_exports(values: Mapping[str, str]) -> str:
    """Returns lines that a POSIX shell can source; PATH is put before what the shell has."""
    lines = []
    for name, value in values.items():
        quoted = "'" + value.replace("'", "'\\''") + "'"
        lines.append(f"export {name}={quoted}" + (':"$PATH"' if name == "PATH" else ""))
    return "\n".join(lines) + "\n"
