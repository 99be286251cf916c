"""What a running control plane offers to the parts that are built on it."""

import asyncio
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from sandbox.cluster.charts import Helm
from sandbox.cluster.state import Program, Settings, State
from sandbox.controlplane import ControlPlane
from sandbox.controlplane.pki import Authority
from sandbox.errors import SandboxError
from sandbox.processes import Process, spawn

READY_SECONDS = 60.0


@dataclass(frozen=True)
class Ground:
    """A control plane and the folder of its sandbox; whatever starts here is written down."""

    folder: Path
    state: State
    plane: ControlPlane
    say: Callable[[str], None]

    @property
    def settings(self) -> Settings:
        """What `up` was asked for."""
        return self.state.settings

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.plane.kubeconfig

    @property
    def bin(self) -> Path:
        """The folder of programs."""
        return self.plane.bin

    @property
    def url(self) -> str:
        """The API server's address on this host."""
        return self.plane.url

    @property
    def authority(self) -> Authority:
        """The sandbox's certificate authority."""
        return self.plane.authority

    @property
    def host_address(self) -> str:
        """The address of this host that its pods can reach."""
        return self.plane.layout.advertise

    @property
    def helm(self) -> Helm:
        """Installs charts here."""
        return Helm(self.bin / "helm", self.kubeconfig, self.plane.admin)

    def replicas(self, part: str) -> int:
        """How many pods a part of the product gets where it runs in pods."""
        return 0 if part in self.settings.without else 1

    def record(self, process: Process) -> None:
        """Writes a process down, so that `down` ends it."""
        self.state.programs[process.name] = Program.of(process)
        self.state.save(self.folder)

    def start(self, name: str, argv: Sequence[str], env: Mapping[str, str]) -> Process:
        """Starts a program that runs until `down`."""
        log = self.folder / "log" / f"{name}.log"
        process = spawn(name, argv, log=log, env=env, guarded=False)
        self.record(process)
        return process

    async def answers(self, process: Process, url: str, *, seconds: float = READY_SECONDS) -> None:
        """Waits until a program answers 200 at a URL of its own.

        Raises:
            ProcessDiedError: it ended instead.
            SandboxError: it did not answer so within `seconds`; the text shows its log.
        """
        verify: ssl.SSLContext | bool = False
        if url.startswith("https"):
            verify = ssl.create_default_context(cafile=str(self.plane.ca))
        deadline = time.monotonic() + seconds
        async with httpx.AsyncClient(verify=verify, trust_env=False, timeout=5.0) as client:
            while (answer := await _ask(client, url)) != "":
                process.ensure_alive()
                if time.monotonic() > deadline:
                    raise SandboxError(
                        f"{process.name} was not ready within {seconds:.0f} s: {answer}; the end"
                        f" of {process.log}:\n{process.log_tail()}"
                    )
                await asyncio.sleep(0.1)


async def _ask(client: httpx.AsyncClient, url: str) -> str:
    """Returns "" when the URL answers 200, else what it said."""
    try:
        answer = await client.get(url)
    except httpx.TransportError as error:
        return f"no answer from {url}: {type(error).__name__} {error}"
    return "" if answer.is_success else f"{url}: {answer.status_code} {answer.text[:500]}"
