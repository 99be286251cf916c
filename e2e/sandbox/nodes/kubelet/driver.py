"""The node driver whose VMs are real: a containerd and a kubelet in namespaces of their own.

A VM outlives the process that booted it, as VMs outlive a cloud's control plane: only `delete`
and `cleanup` end one.
"""

import asyncio
from pathlib import Path

import httpx

from sandbox.controlplane.admin import MERGE, Admin, AdminError
from sandbox.controlplane.pki import Authority
from sandbox.errors import SandboxError
from sandbox.nodes.driver import NodeSpec
from sandbox.nodes.kubelet.boot import Machines
from sandbox.nodes.kubelet.labels import divide
from sandbox.nodes.kubelet.settings import Paths, Settings

REGISTRATION_SECONDS = 120.0
POLL_SECONDS = 0.2
GPU = "nvidia.com/gpu"


class NotRegisteredError(SandboxError):
    """A VM booted and its Node did not appear; the text shows the ends of its logs."""


class VMEndedError(Exception):
    """A VM went off while its Node was waited for."""


class KubeletDriver:
    """Makes nodes of kubelets on this host, for the sandbox in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._paths = Paths(folder.resolve())
        self._machines = Machines(self._paths)
        self._admin: Admin | None = None

    async def create(self, spec: NodeSpec) -> None:
        """Boots the VM, unless it runs, and returns once its Node exists.

        Raises:
            NotPreparedError: the sandbox has no level 2.
            NotRegisteredError: no Node within two minutes, or the VM went off; it is off now.
        """
        settings = Settings.load(self._paths)
        await asyncio.to_thread(self._machines.boot, spec, settings)
        admin = await self._connected(settings)
        try:
            async with asyncio.timeout(REGISTRATION_SECONDS):
                await self._registered(admin, spec.name)
        except (TimeoutError, VMEndedError) as error:
            logs = self._ends_of_logs(spec.name)
            await asyncio.to_thread(self._machines.remove, spec.name)
            raise NotRegisteredError(f"node {spec.name} did not register\n{logs}") from error
        if by_cloud := divide(spec.labels).by_cloud:
            patch = {"metadata": {"labels": dict(by_cloud)}}
            await admin.call("PATCH", _node(spec.name), patch, content_type=MERGE)

    async def advertise_gpu(self, spec: NodeSpec) -> None:
        """Puts `nvidia.com/gpu` into the Node's capacity, where the kubelet then keeps it."""
        resources = {GPU: str(spec.gpus)}
        patch = {"status": {"capacity": resources, "allocatable": resources}}
        admin = await self._connected(Settings.load(self._paths))
        await admin.call("PATCH", f"{_node(spec.name)}/status", patch, content_type=MERGE)

    async def delete(self, spec: NodeSpec) -> None:
        """Switches the VM off, removes what it had on this host, then deletes its Node."""
        await asyncio.to_thread(self._machines.remove, spec.name)
        admin = await self._connected(Settings.load(self._paths))
        try:
            await admin.call("DELETE", _node(spec.name))
        except AdminError as error:
            if error.status != httpx.codes.NOT_FOUND:
                raise

    async def close(self) -> None:
        """Leaves the VMs running: the next driver for this folder finds them."""

    async def _connected(self, settings: Settings) -> Admin:
        if self._admin is None:
            self._admin = await asyncio.to_thread(self._connect, settings)
        return self._admin

    def _connect(self, settings: Settings) -> Admin:
        authority = Authority.open(self._paths.sandbox / "pki")
        credential = authority.issue("sandbox-admin", organizations=("system:masters",))
        return Admin.connect(settings.url, authority.credential.certificate, credential)

    async def _registered(self, admin: Admin, name: str) -> None:
        while True:
            try:
                await admin.call("GET", _node(name))
            except AdminError as error:
                if error.status != httpx.codes.NOT_FOUND:
                    raise
            else:
                return
            if not await asyncio.to_thread(self._machines.runs, name):
                raise VMEndedError
            await asyncio.sleep(POLL_SECONDS)

    def _ends_of_logs(self, name: str) -> str:
        folder = self._paths.nodes / name / "log"
        parts = [self._paths.log(name), folder / "containerd.log", folder / "kubelet.log"]
        return "\n".join(f"the end of {path.name}:\n{_tail(path)}" for path in parts)


def _node(name: str) -> str:
    return f"/api/v1/nodes/{name}"


def _tail(path: Path, lines: int = 15) -> str:
    if not path.exists():
        return "(no log)"
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
