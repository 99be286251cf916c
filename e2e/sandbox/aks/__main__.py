"""Runs the emulated AKS: `python -m sandbox.aks --help`.

Invariant: nothing is decided here; flags become settings, and a signal becomes a clean end.
"""

import asyncio
import logging
import signal
import sys
from contextlib import AsyncExitStack

from controlkit.errors import ControlError
from controlkit.log import configure
from sandbox.aks.arguments import Arguments, parsed
from sandbox.aks.emulator import Emulator
from sandbox.aks.pki import Pki, ensure_pki
from sandbox.aks.store import StateInUseError
from sandbox.nodes.load import loaded


def main() -> int:
    """Runs until SIGTERM or SIGINT; returns the exit status."""
    arguments = parsed(sys.argv[1:])
    configure(stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # one line per probe of each pod
    status = 0
    try:
        asyncio.run(run(arguments))
    except* (StateInUseError, ControlError, OSError) as group:
        sys.stderr.writelines(f"error: {error}\n" for error in group.exceptions)
        status = 1
    return status


async def run(arguments: Arguments) -> None:
    """Runs the emulator until a signal asks it to end."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    async with AsyncExitStack() as stack:
        options = arguments.driver_options
        driver = await stack.enter_async_context(loaded(arguments.driver, options))
        emulator = await stack.enter_async_context(
            Emulator.start(
                arguments.state,
                cluster=arguments.cluster,
                settings=arguments.settings,
                driver=driver,
                host=arguments.host,
                port=arguments.port,
                pki=_pki(arguments),
                open_control=arguments.open_control,
            )
        )
        trust = "" if arguments.certificate else f", its clients have to trust {emulator.ca}"
        sys.stdout.write(f"AKS emulator at {emulator.url}{trust}\n")
        sys.stdout.flush()
        await stop.wait()


def _pki(arguments: Arguments) -> Pki:
    if arguments.certificate is not None and arguments.key is not None:
        # The CA is the client's business then; a self-signed certificate is its own.
        return Pki(arguments.certificate, arguments.certificate, arguments.key)
    names = ["localhost", "127.0.0.1", "::1", *arguments.tls_names]
    return ensure_pki(arguments.pki, [*names, arguments.host])


if __name__ == "__main__":
    sys.exit(main())
