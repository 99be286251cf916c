"""Builds a sandbox from the ground up: control plane, nodes, emulated AKS, charts, controllers.

Each part is written down as it starts and is ready before the next one begins.
"""

from collections.abc import Callable
from pathlib import Path

from sandbox.cluster import azure, controllers, kwok, models, registry
from sandbox.cluster.charts import PROVISIONER, WORKSPACE
from sandbox.cluster.ground import Ground
from sandbox.cluster.progress import Progress
from sandbox.cluster.state import Program, State, shell_exports
from sandbox.controlplane import ControlPlane
from sandbox.controlplane.addresses import free_ports, host_address
from sandbox.nodes.kubelet import Level2
from sandbox.processes import Process

LOOPBACK = "127.0.0.1"


async def build(folder: Path, state: State, progress: Progress) -> None:
    """Builds what the state's settings ask for and writes down where it answers."""
    if state.settings.nodes != "simulated":
        models.ensure_runtime()
    with progress.step("control plane"):
        plane = await ControlPlane.launch(
            folder,
            controllers=True,
            guarded=False,
            # Pods of real nodes have to reach it; without them only this host's programs do.
            bind=host_address() if state.settings.level == 2 else "127.0.0.1",
            record=_recorder(folder, state),
        )
    ground = Ground(folder, state, plane, progress.say)
    state.endpoints["apiserver"] = plane.url
    if state.settings.level == 2:
        await _populate_with_pods(ground, progress)
    else:
        await _populate_with_processes(ground, progress)
    _write_env(ground)


async def _populate_with_processes(ground: Ground, progress: Progress) -> None:
    """Level 1: everything on this host's loopback address."""
    emulator_port, hub_port, *others = free_ports(7)
    ports = controllers.Ports(*others)
    hub = ""
    if ground.settings.nodes == "simulated":
        kwok.start(ground)
    else:
        with progress.step("model hub"):
            hub = await models.start(ground, host=LOOPBACK, port=hub_port)
    with progress.step("emulated AKS"):
        aks = await azure.start(ground, host=LOOPBACK, port=emulator_port)
    with progress.step("charts"):
        values = controllers.workspace_values(ground.settings, replicas=0, hub=hub)
        await ground.helm.install(
            WORKSPACE, values | controllers.webhook_values(LOOPBACK, ports.webhook)
        )
        await ground.helm.install(
            PROVISIONER,
            controllers.provisioner_values(aks, replicas=0, ca=ground.plane.ca),
        )
    with progress.step("controllers"):
        await controllers.start_provisioner(ground, ports)
        await controllers.start_workspace_controller(ground, ports)


async def _populate_with_pods(ground: Ground, progress: Progress) -> None:
    """Level 2: real nodes; pods reach the emulator, the hub and the registry at this host."""
    address = ground.host_address
    emulator_port, hub_port, registry_port = free_ports(3)
    with progress.step("real nodes"):
        await Level2(ground.folder, ground.plane, say=ground.say).start(record=ground.record)
    with progress.step("model hub"):
        hub = await models.start(ground, host=address, port=hub_port)
    with progress.step("registry"):
        images = await registry.start(ground, host=address, port=registry_port)
    with progress.step("emulated AKS"):
        aks = await azure.start(ground, host=address, port=emulator_port)
    with progress.step("charts and controllers"):
        await ground.helm.install(
            PROVISIONER,
            controllers.provisioner_values(
                aks, replicas=ground.replicas("gpu-provisioner"), ca=ground.plane.ca
            ),
        )
        await ground.helm.install(
            WORKSPACE,
            controllers.workspace_values(
                ground.settings,
                replicas=ground.replicas("workspace-controller"),
                hub=hub,
                registries=(images,),
            ),
        )


def _recorder(folder: Path, state: State) -> Callable[[Process], None]:
    def record(process: Process) -> None:
        state.programs[process.name] = Program.of(process)
        state.save(folder)

    return record


def _write_env(ground: Ground) -> None:
    exports = {"KUBECONFIG": str(ground.kubeconfig), "PATH": str(ground.bin)}
    if url := ground.state.endpoints.get("emulator"):
        exports |= {"EMULATOR_URL": url, "EMULATOR_CA": str(ground.plane.ca)}
    (ground.folder / "env").write_text(shell_exports(exports))
