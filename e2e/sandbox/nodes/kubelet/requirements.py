"""Says what this machine lacks for real nodes, and installs what a package manager can."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CNI_PLUGIN = Path("/usr/lib/cni/ptp")


@dataclass(frozen=True)
class Package:
    """A Debian package and the program that shows that it is there."""

    name: str
    program: str


PACKAGES = (
    Package("buildah", "buildah"),
    Package("containerd", "containerd"),
    Package("containernetworking-plugins", str(CNI_PLUGIN)),
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
    """What keeps this machine from running real nodes that no package can mend; sentences."""
    found = []
    if not sys.platform.startswith("linux"):
        found.append("real nodes need Linux")
    elif os.geteuid() != 0:
        found.append("real nodes need root: containers, mounts and network rules are made")
    elif prerequisites() and shutil.which("apt-get") is None:
        found.append(f"packages are missing and there is no apt-get: {', '.join(prerequisites())}")
    return found


def install_packages(say: Callable[[str], None]) -> None:
    """Installs the missing packages with apt-get, naming them; blocks until that is done.

    Raises:
        RuntimeError: apt-get failed; the text shows its last lines.
    """
    missing = prerequisites()
    if not missing:
        return
    say(f"installing Debian packages: {' '.join(missing)}")
    # Try with the lists as they are; an old list may name files that the mirror no longer has.
    install = ["install", "-y", "--no-install-recommends", *missing]
    if _apt(*install).returncode != 0:
        _apt("update")
        failed = _apt(*install)
        if failed.returncode != 0:
            tail = "\n".join((failed.stdout + failed.stderr).splitlines()[-10:])
            raise RuntimeError(f"`apt-get {' '.join(install)}` failed:\n{tail}")


def _apt(*arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    return subprocess.run(
        ["apt-get", "-q", *arguments], env=environment, capture_output=True, text=True, check=False
    )


def _path() -> str:
    # A user's PATH may lack the folders of system programs, even root's.
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
