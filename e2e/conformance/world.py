"""A real control plane, kwok, an emulated AKS, and the provisioner that is on trial.

Invariant: everything that runs here ends with the context, and the provisioner on trial is a
process that sees nothing but the cluster, its Azure and its settings.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from conformance.history import History
from conformance.provisioners import Knob, Provisioner, Surroundings
from controlkit.kube.client import KubeClient
from controlkit.kube.objects import Resource
from sandbox.aks.emulator import Emulator
from sandbox.aks.pki import ensure_pki
from sandbox.aks.settings import Settings
from sandbox.aks.testing import Bench, Starter
from sandbox.cluster.kwok import command as kwok_command
from sandbox.controlplane import ControlPlane
from sandbox.controlplane.addresses import free_ports
from sandbox.controlplane.crds import apply_crds
from sandbox.errors import SandboxError
from sandbox.nodes.load import DriverOptions, loaded
from sandbox.processes import Process, clean_environment, spawn

NAMESPACE = "conformance"
NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
READY_SECONDS = 60.0
STOP_SECONDS = 10.0

SETTINGS = Settings.model_validate(
    {
        "speed": 10,
        "throttle": False,
        "timings": {"join": 5, "ready": 2, "gpu": 3, "update": 5, "remove": 5, "abort": 2},
    }
)
"""A machine within a second, and nothing that waits for long."""


@dataclass
class Replica:
    """One process of the provisioner."""

    process: Process
    ready_url: str

    async def ready(self) -> None:
        """Waits until it says that it works.

        Raises:
            SandboxError: it ended, or did not within a minute.
        """
        deadline = asyncio.get_running_loop().time() + READY_SECONDS
        while (said := await self.says())[0] != 200:
            self.process.ensure_alive()
            if asyncio.get_running_loop().time() > deadline:
                raise SandboxError(
                    f"the provisioner is not ready: {said}\n{self.process.log_tail()}"
                )
            await asyncio.sleep(0.1)

    async def says(self) -> tuple[int, str]:
        """Returns how its readiness probe is answered; 0 for not at all."""
        async with httpx.AsyncClient(trust_env=False, timeout=5.0) as http:
            try:
                answer = await http.get(self.ready_url)
            except httpx.TransportError as error:
                return 0, type(error).__name__
        return answer.status_code, answer.text.strip()[:300]

    async def end(self) -> float:
        """Asks it to end; returns how many seconds that took, at most `STOP_SECONDS`."""
        clock = asyncio.get_running_loop()
        began = clock.time()
        self.process.send(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self.process.ended()
        except TimeoutError:
            await self.kill()
        return clock.time() - began

    async def kill(self) -> None:
        """Ends it as the kernel does when memory is short."""
        self.process.send(signal.SIGKILL)
        await self.process.ended()


@dataclass
class World:
    """All that a behaviour is brought about in."""

    provisioner: Provisioner
    plane: ControlPlane
    client: KubeClient
    aks: Bench
    history: History
    around: Surroundings
    replicas: list[Replica] = field(default_factory=list)

    async def start(
        self, knobs: Mapping[Knob, str] | None = None, *, ready: bool = True
    ) -> Replica:
        """Starts one more process of the provisioner.

        Raises:
            NotObserved: it has no such knob.
            SandboxError: it does not become ready.
        """
        health, metrics = free_ports(2)
        told = self.provisioner.program(self.around, (health, metrics), knobs or {})
        process = spawn(
            "provisioner",
            told.argv,
            log=self.around.folder / "provisioner.log",
            env=clean_environment(**told.env),
        )
        replica = Replica(process, told.ready)
        self.replicas.append(replica)
        if ready:
            await replica.ready()
        return replica

    async def stop(self) -> None:
        """Ends every process of the provisioner, at once."""
        for replica in self.replicas:
            await replica.kill()
        self.replicas.clear()

    async def restart(self, knobs: Mapping[Knob, str] | None = None) -> Replica:
        """Ends every process and starts a new one; it has no time to put things in order."""
        await self.stop()
        return await self.start(knobs)

    def log(self) -> str:
        """Returns the end of what the provisioner has said."""
        return self.replicas[-1].process.log_tail() if self.replicas else "(it does not run)"


@asynccontextmanager
async def world(provisioner: Provisioner, folder: Path) -> AsyncIterator[World]:
    """Builds a world around a provisioner and starts it.

    Raises:
        SandboxError: a part of it does not start; the text shows the end of its log.
    """
    (folder / "token").write_text("an-assertion")
    starter = Starter(folder / "aks", ensure_pki(folder / "pki", ["127.0.0.1"]), folder / "token")
    async with (
        ControlPlane.start(folder / "control-plane", controllers=True) as plane,
        await _connect(plane) as client,
        _emulator(plane, folder, starter) as emulator,
        starter.clients(emulator) as aks,
        _kwok(plane, folder),
    ):
        await apply_crds(plane.admin)
        await client.apply(NAMESPACES, {"metadata": {"name": NAMESPACE}})
        await provisioner.install(client, folder)
        around = Surroundings(plane.kubeconfig, emulator, folder / "token", folder)
        async with History.following(client, provisioner.kinds) as history:
            made = World(provisioner, plane, client, aks, history, around)
            try:
                await made.start()
                yield made
            finally:
                await made.stop()


async def _connect(plane: ControlPlane) -> KubeClient:
    return await KubeClient.connect(
        user_agent="conformance", field_manager="conformance", kubeconfig=plane.kubeconfig
    )


@asynccontextmanager
async def _emulator(plane: ControlPlane, folder: Path, starter: Starter) -> AsyncIterator[Emulator]:
    options = DriverOptions(
        kubeconfig=plane.kubeconfig,
        folder=folder / "nodes",
        sandbox=folder,
        ready_seconds=SETTINGS.scaled(SETTINGS.timings.ready),
        runtime_python=folder,
    )
    async with (
        loaded("simulated", options) as driver,
        Emulator.start(starter.state, settings=SETTINGS, driver=driver, pki=starter.pki) as running,
    ):
        yield running


@asynccontextmanager
async def _kwok(plane: ControlPlane, folder: Path) -> AsyncIterator[None]:
    command = kwok_command(plane.bin, plane.kubeconfig)
    process = spawn("kwok", command, log=folder / "kwok.log", env=clean_environment())
    try:
        yield
    finally:
        await process.stop(grace=0.0)
