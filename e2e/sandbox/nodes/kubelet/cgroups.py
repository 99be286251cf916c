"""Makes and removes the control groups of VMs, under cgroup v1, v2 and both together.

A VM's group is `<sandbox's group>/<VM>` in every hierarchy, so one kubelet never takes another's
groups for leftovers, and what a sandbox made is found again by its group's name alone.
"""

import hashlib
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
REMOVAL_SECONDS = 10.0
_NEEDED = frozenset({"cpu", "cpuset", "hugetlb", "io", "memory", "pids"})
_CPUSET_FILES = ("cpuset.cpus", "cpuset.mems")


@dataclass(frozen=True)
class Hierarchy:
    """A mounted cgroup file system; `controllers` is empty for v2, whose files tell them."""

    folder: Path
    version: int
    controllers: frozenset[str]


def sandbox_group(sandbox: Path) -> str:
    """The name of the group that holds those of all VMs of the sandbox in this folder."""
    digest = hashlib.sha256(str(sandbox.resolve()).encode()).hexdigest()
    return f"gpu-workspaces-{digest[:8]}"


def hierarchies(mountinfo: str) -> list[Hierarchy]:
    """Reads the mounted hierarchies from the text of /proc/self/mountinfo."""
    found = []
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", maxsplit=2)
        folder = Path(left.split(" ")[4])
        if kind == "cgroup":
            found.append(Hierarchy(folder, 1, frozenset(options.split(","))))
        elif kind == "cgroup2":
            found.append(Hierarchy(folder, 2, frozenset()))
    return found


def mounted() -> list[Hierarchy]:
    """The hierarchies of this host."""
    return hierarchies(MOUNTS.read_text())


def make(group: str, into: Iterable[Hierarchy]) -> None:
    """Makes `group` (a path of names) in every hierarchy, ready for a kubelet to divide."""
    for hierarchy in into:
        folder = hierarchy.folder
        for name in group.strip("/").split("/"):
            if hierarchy.version == 2:
                _enable_controllers(folder)
            parent, folder = folder, folder / name
            folder.mkdir(exist_ok=True)
            if "cpuset" in hierarchy.controllers:
                _copy_cpuset(parent, folder)
        if hierarchy.version == 2:
            _enable_controllers(folder)


def _copy_cpuset(parent: Path, child: Path) -> None:
    # A new v1 cpuset has no CPU and no memory node, and takes no process.
    for name in _CPUSET_FILES:
        (child / name).write_text((parent / name).read_text())


def _enable_controllers(folder: Path) -> None:
    available = {*(folder / "cgroup.controllers").read_text().split()}
    enabled = {*(folder / "cgroup.subtree_control").read_text().split()}
    for controller in sorted((available & _NEEDED) - enabled):
        (folder / "cgroup.subtree_control").write_text(f"+{controller}")


def remove(group: str, where: Iterable[Hierarchy]) -> None:
    """Removes `group` and all below it in every hierarchy.

    Its processes must have been killed; the kernel may need a moment to let them go.

    Raises:
        OSError: after 10 s a group is still in use.
    """
    deadline = time.monotonic() + REMOVAL_SECONDS
    for hierarchy in where:
        top = hierarchy.folder / group.strip("/")
        if not top.exists():
            continue
        below = (path for path in top.rglob("*") if path.is_dir())
        for folder in sorted([top, *below], key=lambda path: len(path.parts), reverse=True):
            _remove_one(folder, deadline)


def _remove_one(folder: Path, deadline: float) -> None:
    while True:
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return
