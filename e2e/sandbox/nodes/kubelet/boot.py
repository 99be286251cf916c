"""Boots VMs from a NodeSpec, and removes all that one left on this host.

Both are blocking, and safe to repeat and to mix: calls for one VM wait for each other.
"""

import json
import shutil
import subprocess
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from sandbox.controlplane import kubeconfig
from sandbox.controlplane.addresses import free_ports
from sandbox.controlplane.pki import Authority, Credential
from sandbox.images import node_disk
from sandbox.nodes.driver import NodeSpec
from sandbox.nodes.kubelet import cgroups, files, labels, subnets
from sandbox.nodes.kubelet.network import name_servers
from sandbox.nodes.kubelet.settings import Paths, Settings
from sandbox.nodes.kubelet.vms import VM


@dataclass(frozen=True)
class Machines:
    """The VMs of one sandbox."""

    paths: Paths
    _locks: dict[str, threading.Lock] = field(
        default_factory=lambda: defaultdict(threading.Lock), repr=False
    )

    def boot(self, spec: NodeSpec, settings: Settings) -> None:
        """Starts the VM, unless it runs."""
        with self._locks[spec.name]:
            vm = self._vm(spec.name)
            if vm.runs():
                return
            self._remove(vm)  # a crash may have left its disk
            plan = self._plan(spec, settings)
            self._lay_out(plan, settings)
            vm.start()

    def runs(self, name: str) -> bool:
        """Says whether the VM is on."""
        return self._vm(name).runs()

    def remove(self, name: str) -> None:
        """Ends the VM and removes its disk, control groups and subnet; no effect without one."""
        with self._locks[name]:
            self._remove(self._vm(name))

    def names(self) -> list[str]:
        """The VMs that have something on this host."""
        return sorted(path.name for path in self.paths.nodes.glob("*"))

    def _vm(self, name: str) -> VM:
        return VM(self.paths.nodes / name, self.paths.log(name))

    def _remove(self, vm: VM) -> None:
        vm.kill()
        name = vm.folder.name
        cgroups.remove(self._group(name), cgroups.mounted())
        vm.wipe()
        subnets.release(self.paths.subnets, name)

    def _group(self, name: str) -> str:
        return f"/{cgroups.sandbox_group(self.paths.sandbox)}/{name}"

    def _plan(self, spec: NodeSpec, settings: Settings) -> files.Plan:
        return files.Plan(
            name=spec.name,
            folder=self.paths.nodes / spec.name,
            bin=Path(settings.bin),
            environment=Path(settings.environment) if spec.gpus else None,
            provider_id=spec.provider_id,
            labels=labels.divide(spec.labels),
            taints=spec.taints,
            subnet=subnets.claim(self.paths.subnets, spec.name),
            kubelet_port=free_ports(1)[0],
            address=settings.address,
            cgroup_root=self._group(spec.name),
            name_servers=name_servers(settings.address),
        )

    def _lay_out(self, plan: files.Plan, settings: Settings) -> None:
        folder = plan.folder
        (folder / "cni").mkdir(parents=True)
        (folder / "log").mkdir()
        node_disk.clone(Path(settings.disk), folder / "lib")
        cgroups.make(plan.cgroup_root, cgroups.mounted())
        for name, text in files.texts(plan, _default_spec()).items():
            (folder / name).write_text(text)
        self._write_identity(plan, settings)
        files.boot(plan).save(folder)

    def _write_identity(self, plan: files.Plan, settings: Settings) -> None:
        """Gives the kubelet its certificate, as a cluster's bootstrap does."""
        authority = Authority.open(self.paths.sandbox / "pki")
        issued = authority.issue(f"system:node:{plan.name}", organizations=("system:nodes",))
        shutil.copyfile(authority.credential.certificate, plan.folder / "ca.crt")
        for source, name in ((issued.certificate, "kubelet.crt"), (issued.key, "kubelet.key")):
            target = plan.folder / name
            target.touch(mode=0o600)
            target.write_bytes(source.read_bytes())
        inside = Path(files.VM)
        kubeconfig.with_certificate(
            plan.folder / "kubeconfig",
            url=settings.url,
            ca=inside / "ca.crt",
            user=plan.name,
            credential=Credential(inside / "kubelet.crt", inside / "kubelet.key"),
        )


def _default_spec() -> dict[str, object]:
    printed = subprocess.run(["ctr", "oci", "spec"], capture_output=True, check=True)
    spec: dict[str, object] = json.loads(printed.stdout)
    return spec
