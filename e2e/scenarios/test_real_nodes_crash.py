"""A sandbox of level 2 that was killed is removed without a trace, by its folder alone."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox.controlplane import ControlPlane
from sandbox.nodes.kubelet import Level2, cleanup, host_address, obstacles

pytestmark = pytest.mark.skipif(bool(obstacles()), reason="; ".join(obstacles()))

READY = b"ready\n"


def test_after_a_crash_cleanup_leaves_nothing_on_the_host(
    tmp_path: Path, host_traces: Callable[[Path], dict[str, set[str]]]
) -> None:
    before = host_traces(tmp_path)
    command = [sys.executable, __file__, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as starter:
        assert starter.stdout
        try:
            assert starter.stdout.readline() == READY
            running = host_traces(tmp_path)
        finally:
            starter.kill()
    try:
        assert {kind for kind in before if running[kind] != before[kind]} >= {
            "addresses",
            "control groups",
            "processes",
            "routes",
            "tables",
        }
    finally:
        cleanup(tmp_path)
        cleanup(tmp_path)

    deadline = time.monotonic() + 10  # for the kernel, which ends namespaces in its own time
    while (after := host_traces(tmp_path)) != before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert after == before
    assert not (tmp_path / "level2").exists()


async def start(folder: Path) -> None:
    """What the test kills: a control plane, a real node, a pod."""
    plane = await ControlPlane.launch(folder, controllers=True, guarded=True, bind=host_address())
    await Level2(folder, plane).start()
    kubectl = (str(plane.bin / "kubectl"), f"--kubeconfig={plane.kubeconfig}")
    # A pod needs its ServiceAccount, which kube-controller-manager makes in its own time.
    await _run(*kubectl, "wait", "--for=create", "serviceaccount/default", "--timeout=30s")
    await _run(*kubectl, "run", "idle", "--image=local/pause:1", "--restart=Never")
    await _run(*kubectl, "wait", "--for=condition=Ready", "pod/idle", "--timeout=60s")
    sys.stdout.buffer.write(READY)
    sys.stdout.flush()
    await asyncio.sleep(600)


async def _run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL)
    if await process.wait():
        raise SystemExit(f"`{' '.join(command)}` failed")


if __name__ == "__main__":
    asyncio.run(start(Path(sys.argv[1])))
