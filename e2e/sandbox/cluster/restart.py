"""Ends one program of the sandbox and starts it again with the same arguments.

Code that you changed in a controller or in the emulator is then in force; all state is kept.
"""

import argparse

from sandbox.cluster.interrupts import run_interruptibly
from sandbox.cluster.state import Program, State, sandbox_folder, sole_owner
from sandbox.errors import SandboxError
from sandbox.processes import spawn


def configure(parser: argparse.ArgumentParser) -> None:
    """Which program, and how roughly."""
    parser.add_argument("program", help="as `status` names it, e.g. workspace-controller")
    parser.add_argument(
        "--kill", action="store_true", help="with SIGKILL: no chance to finish anything"
    )


def run(arguments: argparse.Namespace) -> int:
    """Restarts the program; does not wait until it is ready again."""
    folder = sandbox_folder()
    with sole_owner(folder):
        state = State.load(folder)
        if state is None:
            raise SandboxError(f"there is no sandbox in {folder}")
        program = state.programs.get(arguments.program)
        if program is None:
            known = ", ".join(state.programs)
            raise SandboxError(f"the sandbox has no program {arguments.program!r}; it has {known}")
        run_interruptibly(program.process().stop(grace=0.0 if arguments.kill else 15.0))
        again = spawn(program.name, program.argv, log=program.log, env=program.env, guarded=False)
        state.programs[program.name] = Program.of(again)
        state.save(folder)
    print(f"{program.name} runs again, pid {again.pid}")
    return 0
