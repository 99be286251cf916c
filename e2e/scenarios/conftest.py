"""What the scenarios share: a list of the traces that a sandbox could leave on this host."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox.nodes.kubelet import cgroups

Traces = dict[str, set[str]]


@pytest.fixture
def host_traces() -> Callable[[Path], Traces]:
    """A function that lists what a sandbox of level 2 in a folder leaves on its host."""
    return _traces


def _traces(folder: Path) -> Traces:
    # Inside their VM, processes know its folder as /run/vm and its programs' as /run/bin.
    ours = (str(folder), "/run/vm", "/run/bin", "containerd-shim")
    processes = _lines("ps", "-eo", "pid=,args=")
    groups = (path for each in cgroups.mounted() for path in each.folder.glob("*"))
    files = ("/var/lib/kubelet", "/var/log/pods", "/var/log/containers", "/run/containerd")
    return {
        "processes": {line for line in processes if any(name in line for name in ours)},
        "mounts": set(Path("/proc/self/mounts").read_text().splitlines()),
        "devices": {path.name for path in Path("/sys/class/net").iterdir()},
        "routes": set(_lines("ip", "route")),
        "network namespaces": set(_lines("ip", "netns", "list")),
        "control groups": {str(path) for path in groups if path.is_dir()},
        "tables": set(_lines("nft", "list", "tables")),
        "forwarding": {Path("/proc/sys/net/ipv4/ip_forward").read_text()},
        "folders": {name for name in files if Path(name).exists()},
    }


def _lines(*command: str) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [line.strip() for line in done.stdout.splitlines()]
