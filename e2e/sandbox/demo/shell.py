"""Runs commands the way a person would, with the command itself on show.

Invariant: every command ends, by itself or by its deadline.
"""

import asyncio
from collections.abc import Mapping

from rich.console import Console

from sandbox.demo.follow import DemoError

COMMAND_SECONDS = 200.0
CURL = ("curl", "--silent", "--show-error", "--fail", "--max-time", "60")


async def shown(console: Console, environment: Mapping[str, str], *command: str) -> str:
    """Shows a command and what it says, and returns that."""
    console.print(f"[bold cyan]$ {_typed(command)}[/]", highlight=False, soft_wrap=True)
    said = await output(environment, *command, warnings=True)
    console.print(said.rstrip(), highlight=False, markup=False, soft_wrap=True)
    return said


async def output(environment: Mapping[str, str], *command: str, warnings: bool = False) -> str:
    """What a command writes, with its warnings first if they are wanted.

    Raises:
        DemoError: it failed or did not end; the text says what it said.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(COMMAND_SECONDS):
            out, err = await process.communicate()
    except TimeoutError as error:
        process.kill()
        raise DemoError(
            f"`{_typed(command)}` did not end within {COMMAND_SECONDS:.0f} s"
        ) from error
    if process.returncode:
        detail = (err or out).decode().strip()
        raise DemoError(f"`{_typed(command)}` failed: {detail}")
    return (err + out if warnings else out).decode()


async def chat(console: Console, environment: Mapping[str, str], address: str, *, body: str) -> str:
    """Asks a model server at host or host:port, and returns the whole answer."""
    return await shown(
        console,
        environment,
        *(*CURL, "-X", "POST", f"http://{address}/chat"),
        *("-H", "Content-Type: application/json", "-d", body),
    )


async def service_address(environment: Mapping[str, str], name: str) -> str:
    """The address of a Workspace's Service, which only hosts of level 2 route."""
    path = "jsonpath={.spec.clusterIP}"
    return await output(environment, "kubectl", "get", "service", name, "-o", path)


def _typed(command: tuple[str, ...]) -> str:
    """A command as a person would type it, without the options that only keep a script safe."""
    if command[:2] == ("sh", "-c"):
        return command[2]
    safe = {"--silent", "--show-error", "--fail"}
    words = [word for word in command if word not in safe]
    if "--max-time" in words:
        at = words.index("--max-time")
        del words[at : at + 2]
    return " ".join(f"'{w}'" if any(c in w for c in ' {"') else w for w in words)
