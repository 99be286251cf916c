import asyncio
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from sandbox.controlplane import ControlPlane
from sandbox.controlplane.admin import AdminError
from sandbox.processes import ProcessDiedError, start_time

pytestmark = pytest.mark.control_plane


def kubectl(plane: ControlPlane, *arguments: str, kubeconfig: Path | None = None) -> str:
    login = f"--kubeconfig={kubeconfig or plane.kubeconfig}"
    command = [str(plane.bin / "kubectl"), login, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_ports_are_given_to_one_caller_alone() -> None:
    ask = (
        "from sandbox.controlplane.addresses import free_ports; print(*free_ports(500), flush=True)"
    )
    command = [sys.executable, "-c", f"{ask}; input()"]
    callers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    given: list[str] = []
    for caller in callers:
        assert caller.stdout is not None
        given += caller.stdout.readline().split()
    for caller in callers:
        caller.communicate("")
    assert len(given) == len(set(given)) == 2000


def test_it_is_ready_when_handed_over(control_plane: ControlPlane) -> None:
    assert kubectl(control_plane, "get", "--raw", "/readyz") == "ok"
    version = json.loads(kubectl(control_plane, "version", "-o", "json"))
    assert version["serverVersion"]["gitVersion"] == "v1.36.3"


async def test_a_service_account_acts_with_its_own_rights(
    control_plane: ControlPlane, namespace: str
) -> None:
    kubeconfig = await control_plane.kubeconfig_for("default", namespace)
    who = json.loads(kubectl(control_plane, "auth", "whoami", "-o", "json", kubeconfig=kubeconfig))
    assert who["status"]["userInfo"]["username"] == f"system:serviceaccount:{namespace}:default"
    with pytest.raises(subprocess.CalledProcessError) as refused:
        kubectl(control_plane, "get", "nodes", kubeconfig=kubeconfig)
    assert "forbidden" in refused.value.stderr


async def test_a_token_for_an_unknown_account_is_refused_by_name(
    control_plane: ControlPlane, namespace: str
) -> None:
    with pytest.raises(AdminError, match='"nobody" not found'):
        await control_plane.kubeconfig_for("nobody", namespace)


async def test_the_api_server_comes_back_where_it_was(
    control_plane: ControlPlane, namespace: str
) -> None:
    await control_plane.stop_apiserver()
    with pytest.raises(httpx.ConnectError):
        await control_plane.admin.call("GET", "/readyz")
    await control_plane.start_apiserver()
    found = await control_plane.admin.call("GET", f"/api/v1/namespaces/{namespace}")
    assert found["metadata"]["name"] == namespace


async def test_a_frozen_api_server_is_silent_until_it_thaws(control_plane: ControlPlane) -> None:
    control_plane.freeze_apiserver()
    try:
        with pytest.raises(httpx.TimeoutException):
            await control_plane.admin.call("GET", "/version", seconds=0.5)
    finally:
        control_plane.thaw_apiserver()
    assert (await control_plane.admin.call("GET", "/version"))["major"] == "1"


async def test_history_is_gone_after_compaction_and_restart(
    control_plane: ControlPlane, namespace: str
) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    old = (await control_plane.admin.call("GET", path))["metadata"]["resourceVersion"]
    await control_plane.admin.apply(
        f"{path}/newer", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "newer"}}
    )
    await control_plane.compact_etcd()
    await control_plane.stop_apiserver(grace=0.0)
    await control_plane.start_apiserver()
    event = await control_plane.admin.call("GET", f"{path}?watch=1&resourceVersion={old}")
    assert (event["type"], event["object"]["code"]) == ("ERROR", 410)


async def test_a_program_that_cannot_start_is_named_with_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "etcd").write_text("a file where etcd wants a folder")
    with pytest.raises(ProcessDiedError, match=r"(?s)etcd ended with status \d.*not a directory"):
        async with ControlPlane.start(tmp_path):
            pass


async def test_controllers_act_on_objects(tmp_path: Path) -> None:
    async with ControlPlane.start(tmp_path, controllers=True) as plane:
        pids = [each.pid for each in plane.processes.values()]
        wait = ("wait", "--for=create", "configmap/kube-root-ca.crt", "--timeout=20s")
        assert "condition met" in await asyncio.to_thread(kubectl, plane, *wait)
    assert [start_time(pid) for pid in pids] == [None] * 4


STARTER = """
import asyncio, sys
from pathlib import Path
from sandbox.controlplane import ControlPlane

async def main():
    async with ControlPlane.start(Path(sys.argv[1])) as plane:
        print(*[each.pid for each in plane.processes.values()], flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGINT])
def test_nothing_outlives_its_starter(tmp_path: Path, blow: signal.Signals) -> None:
    command = [sys.executable, "-c", STARTER, str(tmp_path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as starter:
        assert starter.stdout is not None
        pids = [int(pid) for pid in starter.stdout.readline().split()]
        assert len(pids) == 2
        starter.send_signal(blow)
    deadline = time.monotonic() + 5
    while any(start_time(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [start_time(pid) for pid in pids] == [None, None]
