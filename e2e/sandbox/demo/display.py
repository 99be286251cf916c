"""Shows the steps of a Workspace's life as they happen: a live table, or plain lines in a log.

Invariant: what is shown comes from `phases`; this module only draws. On a terminal the table is
redrawn in place; elsewhere each finished step is one line, so a log reads well too.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from sandbox.demo.phases import PHASES


class Display(AbstractContextManager["Display"]):
    """Draws the progress of one Workspace."""

    def __init__(self, console: Console, phases: tuple[str, ...] = PHASES) -> None:
        self._console = console
        self.phases = phases
        self._live = Live(console=console, refresh_per_second=8) if console.is_terminal else None
        self._lines = 0

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    def show(self, durations: Sequence[float], running: float, note: str) -> None:
        """Draw the finished steps, the running one and what the Workspace says meanwhile.

        Args:
            durations: seconds of each finished step, in the order of `phases`.
            running: seconds since the step now running began.
            note: one line of explanation under the table.
        """
        if self._live:
            self._live.update(_table(self.phases, durations, running, note))
            return
        for index in range(self._lines, len(durations)):
            self._console.print(f"  {self.phases[index]:<16} {durations[index]:6.1f} s")
        self._lines = len(durations)


def _table(phases: tuple[str, ...], durations: Sequence[float], running: float, note: str) -> Table:
    total = sum(durations) + (running if len(durations) < len(phases) else 0.0)
    table = Table(box=None, caption=note, caption_justify="left", padding=(0, 2))
    table.add_column("step")
    table.add_column("time", justify="right")
    for index, name in enumerate(phases):
        if index < len(durations):
            table.add_row(f"[green]{name}[/]", f"{durations[index]:.1f} s")
        elif index == len(durations):
            table.add_row(f"[yellow]{name}[/]", f"[yellow]{running:.1f} s …[/]")
        else:
            table.add_row(f"[dim]{name}[/]", "")
    table.add_section()
    table.add_row("in all", f"{total:.1f} s")
    return table
