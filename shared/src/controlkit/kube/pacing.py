"""Keeps a client's calls to the API server within a rate, as client-go's QPS and burst do.

Invariant: calls take their turns in the order in which they came; a call that would have to wait
beyond its deadline fails at once, as Transient; watches, which are few and long, never wait.
"""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from controlkit.clock import Clock, SystemClock
from controlkit.errors import Transient
from controlkit.kube.wire import Lines, Wire
from controlkit.rate import TokenBucket


class PacedWire:
    """A wire on which calls wait for their turn."""

    def __init__(self, wire: Wire, *, qps: float, burst: int, clock: Clock | None = None) -> None:
        """A wire at rest.

        Args:
            wire: what carries the calls.
            qps: calls a second over any length of time; more than 0.
            burst: calls that may be made at once before that counts.
            clock: tells whose turn it is.
        """
        self._wire = wire
        self._bucket = TokenBucket(rate=qps, burst=burst)
        self._clock: Clock = clock or SystemClock()

    async def request(
        self,
        verb: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        timeout: float = 30.0,
    ) -> bytes:
        """One call, in its turn; the wait is part of its deadline.

        Raises:
            ControlError: refused, unreachable or late.
        """
        wait = self._bucket.reserve(self._clock.monotonic())
        if wait >= timeout:
            raise Transient(
                "TooManyCalls",
                f"{verb} {path} would wait {wait:.0f} s for its turn, but has {timeout:g} s: raise "
                "--kube-client-qps, or look for what makes so many calls",
            )
        if wait > 0:
            await self._clock.sleep(wait)
        return await self._wire.request(
            verb, path, query=query, body=body, content_type=content_type, timeout=timeout - wait
        )

    def stream(
        self, path: str, *, query: Mapping[str, str], timeout: float
    ) -> AbstractAsyncContextManager[Lines]:
        """A GET whose answer is read line by line, as it comes."""
        return self._wire.stream(path, query=query, timeout=timeout)

    async def close(self) -> None:
        """Closes every connection."""
        await self._wire.close()
