"""Notes when each claim is Ready and each other one told, and what that took of Azure and memory."""

import asyncio
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from controlkit.cache import Cache
from gpuapis.machine import Machine

OTHER = "other"


@dataclass(frozen=True)
class Memory:
    """What a process takes: megabytes now and at most, and seconds of CPU."""

    now: float
    peak: float
    cpu: float


def memory(pid: int) -> Memory:
    """What the process takes."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    peak = next(line for line in status if line.startswith("VmHWM:"))
    process = psutil.Process(pid)
    times = process.cpu_times()
    resident = process.memory_info().rss / 2**20
    return Memory(resident, int(peak.split()[1]) / 1024, times.user + times.system)


@dataclass(frozen=True)
class Rest:
    """What happened while nothing was to be done."""

    seconds: float
    lists: int
    others: int
    rss: float


@dataclass
class Figures:
    """What a row has come to; times in seconds."""

    created: float
    ready: int
    median_ready: float
    last_ready: float
    latest_other: float
    rss_peak: float
    cpu: float
    load: float
    puts: int = 0
    pools: int = 0
    vms: int = 0
    calls: int = 0
    throttled: int = 0
    rest: Rest | None = None

    def count(self, calls: Sequence[Mapping[str, Any]], pools: Mapping[str, Any]) -> None:
        """Takes in what Azure was asked, and the pools that came of it."""
        asked = [call for call in calls if call["verb"] != "TOKEN"]
        self.calls, self.pools = len(asked), len(pools)
        self.puts = sum(call["verb"] == "PUT" for call in asked)
        self.throttled = sum(call.get("status") == 429 for call in asked)
        self.vms = sum(int(pool["properties"]["count"]) for pool in pools.values())

    def rested(self, seconds: float, calls: Sequence[Mapping[str, Any]], taken: Memory) -> None:
        """Takes in what happened while nothing was to be done."""
        lists = sum(call["verb"] == "LIST" for call in calls)
        self.rest = Rest(seconds, lists, len(calls) - lists, taken.now)


@dataclass
class Served:
    """Seconds from the start at which something was first seen, by claim."""

    total: int
    begun: float = 0.0
    created: dict[str, float] = field(default_factory=dict)
    ready: dict[str, float] = field(default_factory=dict)
    expected: dict[str, float] = field(default_factory=dict)
    told: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.done = asyncio.Event()

    def start(self) -> None:
        """Sets the clock to zero."""
        self.begun = asyncio.get_running_loop().time()

    def follow(self, machines: Cache[Machine]) -> None:
        """Takes notes of what a cache shows from now on."""
        machines.subscribe(self._changed)

    def expect(self, name: str) -> None:
        """A claim is about to be created that is to be told something at once."""
        self.expected[name] = self._now()

    async def all_ready(self, patience: float, say: Callable[[str], None]) -> None:
        """Waits until every claim is Ready, or patience ends."""
        deadline = asyncio.get_running_loop().time() + patience
        while not self.done.is_set() and asyncio.get_running_loop().time() < deadline:
            try:
                async with asyncio.timeout(10):
                    await self.done.wait()
            except TimeoutError:
                say(f"{len(self.created)} created, {len(self.ready)} Ready, of {self.total}")

    def figures(self, taken: Memory, load: float) -> Figures:
        """What it has come to so far."""
        late = [
            self.told.get(name, self._now()) - since
            for name, since in self.expected.items()
            if name in self.told or self._now() - since > 1.0
        ]
        moments = list(self.ready.values())
        return Figures(
            created=max(self.created.values(), default=0.0),
            ready=len(moments),
            median_ready=statistics.median(moments) if moments else 0.0,
            last_ready=max(moments, default=float("inf")),
            latest_other=max(late, default=0.0),
            rss_peak=taken.peak,
            cpu=taken.cpu,
            load=load,
        )

    def _now(self) -> float:
        return asyncio.get_running_loop().time() - self.begun

    def _changed(self, _: Machine | None, new: Machine | None) -> None:
        if new is None:
            return
        name = new.metadata.name
        if name.startswith(OTHER):
            if new.status.conditions:
                self.told.setdefault(name, self._now())
            return
        self.created.setdefault(name, self._now())
        if any(each.type == "Ready" and each.status == "True" for each in new.status.conditions):
            self.ready.setdefault(name, self._now())
            if len(self.ready) == self.total:
                self.done.set()
