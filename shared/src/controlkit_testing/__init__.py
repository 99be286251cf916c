"""What tests of a controller stand on: clocks, wires and an API server that tests own."""

from controlkit_testing.api import Hang, MemoryApi
from controlkit_testing.clock import FakeClock, LoopClock
from controlkit_testing.events import KeptEvents
from controlkit_testing.proxy import CutProxy
from controlkit_testing.waiting import eventually, free_port

__all__ = [
    "CutProxy",
    "FakeClock",
    "Hang",
    "KeptEvents",
    "LoopClock",
    "MemoryApi",
    "eventually",
    "free_port",
]
