"""Shows what the sandbox runs, where it answers, and what has ended; status 1 unless all is well."""

import argparse

from sandbox.cluster.state import State, sandbox_folder


def configure(parser: argparse.ArgumentParser) -> None:
    """There is nothing to choose."""
    parser.epilog = "Use the sandbox from a shell: . .sandbox/env"


def run(_: argparse.Namespace) -> int:
    """Prints a table of programs and the endpoints."""
    folder = sandbox_folder()
    state = State.load(folder)
    if state is None:
        print(f"there is no sandbox in {folder}; bring one up with `make sandbox-up`")
        return 1
    ended = {program.name for program in state.ended()}
    print(f"{state.settings.describe()}: {_verdict(state, ended)}\n")
    print(f"{'PROGRAM':<24} {'PID':>8}  STATE")
    for name, program in state.programs.items():
        print(f"{name:<24} {program.pid:>8}  {'ended' if name in ended else 'runs'}")
    print(f"\nlogs: {folder / 'log'}")
    for name, url in state.endpoints.items():
        print(f"{name}: {url}")
    for name in ended:
        print(f"\n{state.programs[name].process().obituary()}")
    return 0 if state.ready and not ended else 1


def _verdict(state: State, ended: set[str]) -> str:
    if not state.ready:
        return "being brought up, or `up` was killed"
    return f"{', '.join(sorted(ended))} ended" if ended else "ready"
