"""A program that is asked to stop, twice: its clean-up is finished all the same."""

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import asyncio, sys
from sandbox.cluster.interrupts import run_interruptibly

async def work():
    try:
        print("working", flush=True)
        await asyncio.sleep(60)
    finally:
        print("cleaning", flush=True)
        await asyncio.sleep(0.5)
        print("clean", flush=True)

try:
    run_interruptibly(work())
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_second_signal_does_not_cut_the_clean_up_short(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        for line in ("working", "cleaning"):
            assert program.stdout.readline().strip() == line
            program.send_signal(number)
        assert program.stdout.readline().strip() == "clean"
        assert program.wait(timeout=10) == 130
