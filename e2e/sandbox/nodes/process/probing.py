"""Probes: how a container is asked whether it works, and what follows from the answers.

Invariant: a verdict changes only after as many like answers in a row as the probe demands.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import httpx

from controlkit.clock import Clock
from sandbox.nodes.process.launch import named_port
from sandbox.nodes.process.views import Container, Probe

REDIRECTED: Final = 400


@dataclass(frozen=True)
class Tally:
    """Answers in a row, and the verdict they led to; None before the first verdict."""

    successes: int = 0
    failures: int = 0
    verdict: bool | None = None

    def after(self, probe: Probe, *, success: bool) -> "Tally":
        """Returns the tally with one more answer."""
        if success:
            count = self.successes + 1
            enough = count >= probe.success_threshold
            return Tally(count, 0, True if enough else self.verdict)
        count = self.failures + 1
        enough = count >= probe.failure_threshold
        return Tally(0, count, False if enough else self.verdict)


class Prober:
    """Asks the containers of one pod."""

    def __init__(self, address: str, clock: Clock) -> None:
        self._address = address
        self._clock = clock
        # Loopback: neither proxies nor certificates of this machine have a say.
        self._http = httpx.AsyncClient(trust_env=False, verify=False)  # noqa: S501

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def watch(
        self, container: Container, probe: Probe, verdict: Callable[[bool, str], bool]
    ) -> None:
        """Asks until `verdict` says that it has heard enough.

        It is called with each change of the verdict, and with the last answer in words.
        """
        tally = Tally()
        await self._clock.sleep(probe.initial_delay_seconds)
        while True:
            problem = await self._ask(container, probe)
            after = tally.after(probe, success=not problem)
            changed = after.verdict != tally.verdict
            if changed and after.verdict is not None and verdict(after.verdict, problem):
                return
            tally = after
            await self._clock.sleep(probe.period_seconds)

    async def _ask(self, container: Container, probe: Probe) -> str:
        """Returns what is wrong, or an empty text."""
        try:
            async with asyncio.timeout(probe.timeout_seconds):
                if probe.http_get is not None:
                    return await self._get(container, probe)
                return await self._connect(container, probe)
        except TimeoutError:
            return f"no answer within {probe.timeout_seconds} s"
        except (httpx.HTTPError, OSError) as error:
            return str(error) or type(error).__name__

    async def _get(self, container: Container, probe: Probe) -> str:
        assert probe.http_get is not None
        get = probe.http_get
        port = named_port(container, get.port)
        url = f"{get.scheme.lower()}://{self._address}:{port}/{get.path.lstrip('/')}"
        answer = await self._http.get(url, headers={"User-Agent": "kube-probe/1.36"})
        if answer.status_code >= REDIRECTED:
            return f"HTTP probe failed with statuscode: {answer.status_code}"
        return ""

    async def _connect(self, container: Container, probe: Probe) -> str:
        assert probe.tcp_socket is not None
        port = named_port(container, probe.tcp_socket.port)
        _, writer = await asyncio.open_connection(self._address, port)
        writer.close()
        return ""
