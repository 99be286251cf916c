"""What tests of a controller stand on."""

from controlkit_testing.clock import FakeClock

__all__ = ["FakeClock"]
