"""What the scenarios share: a sandbox of level 2, and a list of what it could leave on this host."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandbox.commands import Sandbox
from sandbox.nodes.kubelet import cgroups

MARK = "/run/gpu-workspaces.level2"
POD_ADDRESSES = "10.244."

Traces = dict[str, set[str]]


@pytest.fixture(scope="session")
def host_traces() -> Callable[[Path], Traces]:
    """A function that lists what a sandbox of level 2 in a folder leaves on its host."""
    return _traces


@pytest.fixture(scope="module")
def level2(
    tmp_path_factory: pytest.TempPathFactory, host_traces: Callable[[Path], Traces]
) -> Iterator[Sandbox]:
    """A sandbox of level 2; after the module it is taken down and nothing of it is left."""
    sandbox = Sandbox(tmp_path_factory.mktemp("sandbox"))
    before = host_traces(sandbox.folder)
    try:
        sandbox.verb("up", "--level=2", "--speed=50")
        yield sandbox
    finally:
        sandbox.verb("down")
    assert host_traces(sandbox.folder) == before


def _traces(folder: Path) -> Traces:
    # Inside their VM, processes know its folder as /run/vm and its programs' as /run/bin.
    ours = (str(folder), "/run/vm", "/run/bin", "containerd-shim")
    groups = (path for each in cgroups.mounted() for path in each.folder.glob("gpu-workspaces-*"))
    files = ("/var/lib/kubelet", "/var/log/pods", "/var/log/containers", "/run/containerd", MARK)
    return {
        "processes": _lines(ours, "ps", "-eo", "pid=,args="),
        "mounts": _lines((str(folder), "kubelet", "cni"), "cat", "/proc/self/mounts"),
        "addresses": _lines((POD_ADDRESSES,), "ip", "-oneline", "address"),
        "routes": _lines((POD_ADDRESSES,), "ip", "route"),
        "network namespaces": _lines(("cni",), "ip", "netns", "list"),
        "control groups": {str(path) for path in groups},
        "tables": _lines(("kube-proxy",), "nft", "list", "tables"),
        "forwarding": {Path("/proc/sys/net/ipv4/ip_forward").read_text()},
        "folders": {name for name in files if os.path.lexists(name)},
    }


def _lines(parts: tuple[str, ...], *command: str) -> set[str]:
    """The lines of a command's output that hold any of the parts."""
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = (line.strip() for line in done.stdout.splitlines())
    return {line for line in lines if any(part in line for part in parts)}
