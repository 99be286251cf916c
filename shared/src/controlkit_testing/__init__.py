"""What tests of a controller stand on: a clock and an API server that tests own."""

from controlkit_testing.api import Hang, MemoryApi
from controlkit_testing.clock import FakeClock, LoopClock
from controlkit_testing.proxy import CutProxy

__all__ = ["CutProxy", "FakeClock", "Hang", "LoopClock", "MemoryApi"]
