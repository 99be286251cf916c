"""What tests of a controller stand on: a clock and an API server that tests own."""

from controlkit_testing.api import Hang, MemoryApi
from controlkit_testing.clock import FakeClock, LoopClock

__all__ = ["FakeClock", "Hang", "LoopClock", "MemoryApi"]
