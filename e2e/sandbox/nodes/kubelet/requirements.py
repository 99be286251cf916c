"""Says what this machine lacks for real nodes, and installs what a package manager can."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sandbox.errors import SandboxError
from sandbox.nodes.kubelet.cgroups import mounted
from sandbox.nodes.kubelet.vms import SYSTEM_PATH

LOCK_SECONDS = 300
"""How long to wait for another apt-get, such as a new machine's first upgrade."""
CNI_PLUGIN = Path("/usr/lib/cni/ptp")
POLICY = Path("/usr/sbin/policy-rc.d")
"""What Debian's packages ask whether they may start a service; 101 says no."""


@dataclass(frozen=True)
class Package:
    """A Debian package and the program that shows that it is there."""

    name: str
    program: str


PACKAGES = (
    Package("buildah", "buildah"),
    Package("containerd", "containerd"),
    Package("containernetworking-plugins", str(CNI_PLUGIN)),
    Package("docker-registry", "docker-registry"),
    Package("mmdebstrap", "mmdebstrap"),
    Package("mount", "mount"),
    Package("nftables", "nft"),
    Package("runc", "runc"),
    Package("util-linux", "unshare"),
)


def prerequisites() -> list[str]:
    """The Debian packages that level 2 needs and that are missing here."""
    return [each.name for each in PACKAGES if shutil.which(each.program, path=_path()) is None]


def obstacles() -> list[str]:
    """Says in sentences what keeps this machine from running real nodes and no package can mend."""
    if not sys.platform.startswith("linux"):
        return ["real nodes need Linux"]
    if os.geteuid() != 0:
        return ["real nodes need root: containers, mounts and network rules are made"]
    found = []
    if not _can_make_namespaces():
        found.append("real nodes need mount and PID namespaces, which this root may not make")
    if any(os.statvfs(each.folder).f_flag & os.ST_RDONLY for each in mounted()):
        found.append("real nodes need control groups, which are read-only here")
    if (packages := prerequisites()) and shutil.which("apt-get", path=_path()) is None:
        found.append(f"apt-get is not there to install what is missing: {', '.join(packages)}")
    return found


def _can_make_namespaces() -> bool:
    probe = ["unshare", "--mount", "--pid", "--fork", "true"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def install_packages(say: Callable[[str], None]) -> None:
    """Installs the missing packages with apt-get, naming them; blocks until that is done.

    Raises:
        SandboxError: apt-get failed; the text shows its last lines.
    """
    missing = prerequisites()
    if not missing:
        return
    say(f"installing Debian packages: {' '.join(missing)}")
    install = ["install", "-y", "--no-install-recommends", *missing]
    with _no_services_started():
        # Try with the lists as they are; an old list may name files that the mirror has no more.
        if _apt(*install).returncode == 0:
            return
        _apt("update")
        failed = _apt(*install)
    if failed.returncode != 0:
        tail = "\n".join((failed.stdout + failed.stderr).splitlines()[-10:])
        raise SandboxError(f"`apt-get {' '.join(install)}` failed:\n{tail}")


@contextmanager
def _no_services_started() -> Iterator[None]:
    """Keeps packages from starting their daemons, such as containerd's, of which we run our own."""
    if POLICY.exists():  # the host has a policy already, and it is the host's to keep
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


def _apt(*arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    return subprocess.run(
        ["apt-get", "-q", f"-oDPkg::Lock::Timeout={LOCK_SECONDS}", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def _path() -> str:
    # A user's PATH may lack the folders of system programs, even root's.
    return os.pathsep.join([os.environ.get("PATH", ""), SYSTEM_PATH])
