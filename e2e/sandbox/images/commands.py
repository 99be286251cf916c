"""Runs the tools that make images: their output in a log, their progress told, ended for certain."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from sandbox.errors import SandboxError

HEARTBEAT_SECONDS = 10.0
END_SECONDS = 5.0
TAIL_LINES = 20

# Mounts and processes of what runs behind this end with it, even when it is killed midway.
CONTAINED = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")

Say = Callable[[str], None]


class ImageError(SandboxError):
    """An image could not be made; the text names the command and shows the end of its output."""


async def run(
    argv: Sequence[str],
    *,
    log: Path,
    say: Say,
    label: str,
) -> None:
    """Runs a command to its end, appending its output to `log`; says `label` every 10 s.

    Raises:
        ImageError: its status is not 0.
    """
    started = time.monotonic()
    with log.open("ab") as output:
        output.write(f"\n$ {' '.join(argv)}\n".encode())
        output.flush()
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=_environment(),
            start_new_session=True,
        )
    try:
        while process.returncode is None:
            try:
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    await process.wait()
            except TimeoutError:
                say(f"  {label}: {time.monotonic() - started:.0f} s: {_last_line(log)}")
    except asyncio.CancelledError:
        await _end(process)
        raise
    if process.returncode != 0:
        raise ImageError(
            f"{label}: `{' '.join(argv)}` ended with status {process.returncode};"
            f" the end of {log}:\n{_tail(log)}"
        )


def _environment() -> dict[str, str]:
    # A user's PATH may lack the folders of system programs, even root's.
    return os.environ | {"PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin:/sbin:/bin"}


async def _end(process: asyncio.subprocess.Process) -> None:
    """Lets the command remove its temporary files; kills what is left of it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        async with asyncio.timeout(END_SECONDS):
            await process.wait()
    except TimeoutError:
        pass
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-TAIL_LINES:])


def _last_line(log: Path) -> str:
    lines = _tail(log).splitlines()
    return lines[-1][:100] if lines else ""
