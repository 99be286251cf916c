"""The command line of the sandbox: one table of verbs, each in a module of its own.

A module offers `configure(parser)` and `run(arguments) -> int`, and is loaded only when its verb
is asked for. A failure that a person can act on is one message and status 1, never a stack trace.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from controlkit.errors import ControlError
from sandbox.errors import SandboxError

INTERRUPTED = 130


@dataclass(frozen=True)
class Command:
    """A verb, the module that does it, and what it does in one line."""

    verb: str
    module: str
    summary: str


COMMANDS = (
    Command("up", "sandbox.cluster.up", "bring the sandbox up; returns when all of it is ready"),
    Command("status", "sandbox.cluster.status", "show what runs, where, and what has ended"),
    Command(
        "restart", "sandbox.cluster.restart", "end one of the sandbox's programs, start it again"
    ),
    Command("down", "sandbox.cluster.down", "end the sandbox and remove all it made but its logs"),
    Command("doctor", "sandbox.cluster.doctor", "say what this machine lacks for which level"),
    Command("demo", "sandbox.demo.command", "one Workspace from `kubectl apply` to an answer"),
    Command("images", "sandbox.images.command", "build all images whole, with buildah"),
    Command("bench-control-plane", "sandbox.bench.control_plane", "nothing to ready, in seconds"),
    Command("bench-idle", "sandbox.bench.idle", "memory of each controller at rest"),
    Command("bench-storm", "sandbox.bench.storm", "apply many Workspaces at once and measure"),
    Command("bench-restart", "sandbox.bench.restart", "restart the controller: what it writes"),
    Command("bench-stuck", "sandbox.bench.stuck", "how much stuck Workspaces delay others"),
    Command(
        "bench-provisioner", "sandbox.bench.provisioner", "create many claims at once and measure"
    ),
)


class CommandModule(Protocol):
    """What the module of a verb offers."""

    __doc__: str | None

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Declares the verb's options."""
        ...

    def run(self, arguments: argparse.Namespace) -> int:
        """Does it and returns the exit status."""
        ...


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb and returns the exit status of the process."""
    words = list(sys.argv[1:] if argv is None else argv)
    found = [command for command in COMMANDS if words and command.verb == words[0]]
    if not found:
        return _explain(words)
    module = cast("CommandModule", importlib.import_module(found[0].module))
    parser = argparse.ArgumentParser(
        prog=f"python -m sandbox {found[0].verb}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.configure(parser)
    arguments = parser.parse_args(words[1:])
    try:
        return module.run(arguments)
    except (SandboxError, ControlError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def _explain(words: Sequence[str]) -> int:
    lines = [f"  {command.verb:<20} {command.summary}" for command in COMMANDS]
    usage = "\n".join(["usage: python -m sandbox VERB [--help] …", "", *lines])
    if words and words[0] in {"-h", "--help"}:
        print(usage)
        return 0
    unknown = f"error: there is no verb {words[0]!r}\n" if words else ""
    print(unknown + usage, file=sys.stderr)
    return 2
