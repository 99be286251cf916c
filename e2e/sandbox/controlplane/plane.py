"""A real Kubernetes control plane: etcd and kube-apiserver, on request with their controllers.

It is ready when `start` or `launch` hands it over, and when that fails nothing of it still runs.
"""

import asyncio
import base64
import signal
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import httpx

from sandbox import tools
from sandbox.controlplane import commands, kubeconfig
from sandbox.controlplane.addresses import free_ports, host_address
from sandbox.controlplane.admin import Admin
from sandbox.controlplane.commands import Layout, Ports
from sandbox.controlplane.pki import Authority, Credential
from sandbox.errors import SandboxError
from sandbox.processes import Process, ProcessDiedError, clean_environment, spawn

READY_SECONDS = 60.0
PORT_ATTEMPTS = 3
TOKEN_SECONDS = 24 * 3600
COMMANDS = {
    "etcd": commands.etcd,
    "kube-apiserver": commands.apiserver,
    "kube-controller-manager": commands.controller_manager,
    "kube-scheduler": commands.scheduler,
}
SERVERS = ("etcd", "kube-apiserver")
CONTROLLER_USERS = {
    "kube-controller-manager": "system:kube-controller-manager",
    "kube-scheduler": "system:kube-scheduler",
}


class NotReadyError(SandboxError):
    """A part of the control plane runs but does not become ready; the text says what is missing."""


@dataclass
class ControlPlane:
    """A running control plane; its processes by name, in the order in which they started."""

    layout: Layout
    authority: Authority
    admin: Admin
    guarded: bool
    processes: dict[str, Process] = field(default_factory=dict)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.layout.kubeconfig("admin")

    @property
    def url(self) -> str:
        """The API server's address on this host."""
        return self.layout.url

    @property
    def ca(self) -> Path:
        """The certificate of the authority that signed the API server's."""
        return self.authority.credential.certificate

    @property
    def bin(self) -> Path:
        """The folder of programs, kubectl among them."""
        return self.layout.bin

    @classmethod
    @asynccontextmanager
    async def start(cls, folder: Path, *, controllers: bool = False) -> AsyncIterator[Self]:
        """Runs a control plane in `folder` for the length of a `with` block.

        It ends with the block, and with the calling thread whatever ends that. `controllers`
        adds kube-controller-manager and kube-scheduler.

        Raises:
            ProcessDiedError: a program ended during start; the text shows the end of its log.
            NotReadyError: it was not ready within a minute.
            tools.ToolsError: the programs are missing and cannot be built.
        """
        plane = await cls.launch(folder, controllers=controllers, guarded=True)
        try:
            yield plane
        finally:
            await plane.stop(grace=0.0)  # nobody will read its data again

    @classmethod
    async def launch(
        cls,
        folder: Path,
        *,
        controllers: bool,
        guarded: bool,
        bind: str = "127.0.0.1",
        record: Callable[[Process], None] = lambda _: None,
    ) -> Self:
        """Starts a control plane that runs until `stop`, or with its starter when `guarded`.

        `bind` is the address of this host at which the API server listens and is called.
        `record` is called with each process as soon as it exists.
        """
        needed = tools.PROGRAMS if controllers else tools.CONTROL_PLANE
        bin_folder = await asyncio.to_thread(tools.binaries, needed)
        for attempt in range(1, PORT_ATTEMPTS + 1):
            layout = Layout(folder, bin_folder, Ports(*free_ports(4)), bind, host_address())
            plane = cls._prepare(layout, guarded)
            try:
                await plane.run(controllers=controllers, record=record)
            except ProcessDiedError as error:
                await plane.stop(grace=0.0)
                # Between our look and its bind another program may have taken a port.
                if "address already in use" not in str(error) or attempt == PORT_ATTEMPTS:
                    raise
            except BaseException:
                await plane.stop(grace=0.0)
                raise
            else:
                return plane
        raise AssertionError("unreachable: the last attempt returns or raises")

    @classmethod
    def _prepare(cls, layout: Layout, guarded: bool) -> Self:
        (layout.folder / "data").mkdir(parents=True, exist_ok=True)
        authority = Authority.open(layout.pki)
        credential = authority.issue("sandbox-admin", organizations=("system:masters",))
        ca = authority.credential.certificate
        logins: dict[str, Credential] = {"admin": credential}
        logins |= {name: authority.issue(user) for name, user in CONTROLLER_USERS.items()}
        for name, login in logins.items():
            kubeconfig.with_certificate(
                layout.kubeconfig(name), url=layout.url, ca=ca, user=name, credential=login
            )
        return cls(layout, authority, Admin.connect(layout.url, ca, credential), guarded)

    async def run(self, *, controllers: bool, record: Callable[[Process], None]) -> None:
        """Starts the programs and waits until all of them are ready."""
        for name in (*SERVERS, *CONTROLLER_USERS) if controllers else SERVERS:
            record(await self._start_program(name))
        await self._wait_until_ready(self.processes)

    async def _start_program(self, name: str) -> Process:
        if name in CONTROLLER_USERS:
            await self._wait_until_ready(SERVERS)
        command = COMMANDS[name](self.layout, self.authority)
        self.processes[name] = spawn(
            name, command, log=self.layout.log(name), guarded=self.guarded, env=clean_environment()
        )
        return self.processes[name]

    async def _wait_until_ready(self, names: Collection[str]) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while missing := await self._missing(names):
            if time.monotonic() > deadline:
                logs = [f"the end of {each.log}:\n{each.log_tail()}" for each in self._of(names)]
                raise NotReadyError(
                    "\n".join([f"not ready within {READY_SECONDS:.0f} s: {missing}", *logs])
                )
            await asyncio.sleep(0.05)

    async def _missing(self, names: Collection[str]) -> str:
        for process in self._of(names):
            process.ensure_alive()
        ports = self.layout.ports
        missing = await self.admin.missing()
        for name, port in zip(
            CONTROLLER_USERS, (ports.controller_manager, ports.scheduler), strict=True
        ):
            if not missing and name in names:
                itself = Admin(f"https://127.0.0.1:{port}", self.admin.ssl_context)
                missing = await itself.missing("healthz")
        return missing

    def _of(self, names: Iterable[str]) -> list[Process]:
        return [self.processes[name] for name in names]

    async def stop(self, *, grace: float = 10.0) -> None:
        """Ends all processes, the last started first; each has `grace` seconds to end itself."""
        for process in reversed(self.processes.values()):
            await process.stop(grace=grace)
        self.processes.clear()

    async def stop_apiserver(self, *, grace: float = 5.0) -> None:
        """Takes the API server away; `grace` 0 cuts all connections at once, as a crash does."""
        await self.processes["kube-apiserver"].stop(grace=grace)

    async def start_apiserver(self) -> None:
        """Brings the API server back on the same address and waits until all is ready.

        The controllers end themselves when they miss the API server at a wrong moment, and
        count on being started again; so that is done here too.
        """
        for name in [name for name, process in self.processes.items() if not process.alive()]:
            await self._start_program(name)
        await self._wait_until_ready(self.processes)

    def freeze_apiserver(self) -> None:
        """Makes the API server fall silent: connections stay open and nothing is answered."""
        self.processes["kube-apiserver"].send(signal.SIGSTOP)

    def thaw_apiserver(self) -> None:
        """Ends what `freeze_apiserver` began."""
        self.processes["kube-apiserver"].send(signal.SIGCONT)

    async def compact_etcd(self) -> int:
        """Drops all history of etcd and returns the revision that is now the oldest.

        The API server still answers old watches from its memory; restart it as well to make it
        answer "too old resource version" (410).
        """
        everything = base64.b64encode(b"\0").decode()
        async with httpx.AsyncClient(
            base_url=self.layout.etcd_url, timeout=30.0, trust_env=False
        ) as etcd:
            found = await etcd.post("/v3/kv/range", json={"key": everything, "limit": "1"})
            revision = int(found.raise_for_status().json()["header"]["revision"])
            compacted = await etcd.post(
                "/v3/kv/compaction", json={"revision": str(revision), "physical": True}
            )
            compacted.raise_for_status()
        return revision

    async def kubeconfig_for(
        self, service_account: str, namespace: str, *, seconds: int = TOKEN_SECONDS
    ) -> Path:
        """Returns a kubeconfig with a token of an existing ServiceAccount, valid for `seconds`.

        A second call for the same account renews the token in the same file.
        """
        token = await self.admin.token(service_account, namespace, seconds=seconds)
        path = self.layout.pki / "service-accounts" / f"{namespace}.{service_account}.kubeconfig"
        user = f"system:serviceaccount:{namespace}:{service_account}"
        kubeconfig.with_token(path, url=self.url, ca=self.ca, user=user, token=token)
        return path
