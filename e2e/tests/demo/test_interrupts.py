"""The demo is stopped, at the worst moments: what it brought up is taken down all the same.

The verbs `up` and `down` are stand-ins that write down what happens to them.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

DEMO = """
import asyncio, sys
from pathlib import Path
from rich.console import Console
from sandbox.cluster.interrupts import run_interruptibly
from sandbox.demo import story

stand_in, diary, blocks = sys.argv[1:]

async def verb(name, *arguments):
    return await asyncio.create_subprocess_exec(
        sys.executable, stand_in, name, diary, start_new_session=True
    )

async def show():
    async with story._sandbox(story.Stage(Path(), Path(), 1), Console(file=sys.stderr)):
        Path(diary).open("a").write("playing\\n")
        await asyncio.sleep(float(blocks))

story._verb = verb
try:
    run_interruptibly(show())
except KeyboardInterrupt:
    sys.exit(130)
"""
STAND_IN = """
import signal, sys, time
from pathlib import Path

name, diary = sys.argv[1], Path(sys.argv[2])
write = lambda word: diary.open("a").write(f"{name} {word}\\n")
signal.signal(signal.SIGINT, lambda *_: (write("interrupted"), sys.exit(1)))
write("began")
time.sleep(0.6 if name == "down" else 0)
write("ended")
"""


def wait_for(diary: Path, line: str) -> None:
    deadline = time.monotonic() + 20
    while line not in (diary.read_text() if diary.exists() else ""):
        assert time.monotonic() < deadline, f"never came to: {line}"
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("blocks", "signals"),
    [
        (60, [("playing", signal.SIGINT)]),
        (60, [("playing", signal.SIGTERM)]),
        (60, [("playing", signal.SIGINT), ("down began", signal.SIGINT)]),
        (0, [("down began", signal.SIGINT)]),
        (0, [("down began", signal.SIGTERM)]),
    ],
    ids=[
        "ctrl-c while it plays",
        "terminated while it plays",
        "ctrl-c twice",
        "ctrl-c at the clean-up",
        "terminated at the clean-up",
    ],
)
def test_the_sandbox_goes_down_to_the_end(
    tmp_path: Path, blocks: int, signals: list[tuple[str, signal.Signals]]
) -> None:
    diary, stand_in = tmp_path / "diary", tmp_path / "stand_in.py"
    stand_in.write_text(STAND_IN)
    demo = subprocess.Popen(
        [sys.executable, "-c", DEMO, str(stand_in), str(diary), str(blocks)],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    for line, number in signals:
        wait_for(diary, line)
        os.killpg(demo.pid, number)
    assert demo.wait(timeout=20) == 130
    assert diary.read_text().splitlines() == [
        "up began",
        "up ended",
        "playing",
        "down began",
        "down ended",
    ]
