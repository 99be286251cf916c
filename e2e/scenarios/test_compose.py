"""Runs docker-compose.yaml for real, with podman where there is no Docker engine.

The public images cannot be had everywhere, so images of the same programs, built from the Go
modules, carry their names here. Needs root and Debian's podman, buildah and mmdebstrap.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from sandbox import tools
from sandbox.cluster.state import REPOSITORY
from sandbox.controlplane.addresses import free_ports
from sandbox.images.buildah import Buildah, certificate_bundle, uv_cache

COMPOSE = yaml.safe_load((REPOSITORY / "docker-compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
PROGRAMS_IMAGE = "localhost/sandbox/kubernetes:dev"
PUBLIC = {
    service["image"] for service in SERVICES.values() if service["image"].startswith("registry.")
}
# The host's control groups and limits are not podman's to change in every container or VM.
CONTAINERS_CONF = """
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
"""
STORAGE_CONF = """
[storage]
driver = "overlay"
graphroot = "{folder}/store"
runroot = "{folder}/store-run"
"""


@dataclass(frozen=True)
class Engine:
    """podman and podman-compose with a store of their own, which later runs find again."""

    folder: Path
    environment: dict[str, str]

    def run(self, *command: str, seconds: float = 120) -> str:
        done = subprocess.run(
            command,
            cwd=REPOSITORY,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == 0, f"{command}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def compose(self, *words: str, seconds: float = 120) -> str:
        command = (sys.executable, "-m", "podman_compose", *words)
        return self.run(*command, seconds=seconds)

    def up(self) -> None:
        """Starts every service when its `depends_on` says so.

        Not left to podman-compose, because podman 4.3 cannot start a container that requires one
        which itself requires another.
        """
        waited_for = {
            name
            for service in SERVICES.values()
            for name, condition in service.get("depends_on", {}).items()
            if condition["condition"] == "service_completed_successfully"
        }
        for name in in_order():
            self.compose("up", "--detach", "--no-build", "--no-deps", name)
            if name in waited_for:
                status = self.run("podman", "wait", f"{COMPOSE['name']}_{name}_1").strip()
                assert status == "0", self.compose("logs", name)


def in_order() -> list[str]:
    """The services, each after those it depends on."""
    ordered: list[str] = []
    while len(ordered) < len(SERVICES):
        ordered += [
            name
            for name, service in SERVICES.items()
            if name not in ordered and set(service.get("depends_on", {})) <= set(ordered)
        ]
    return ordered


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    missing = [name for name in ("podman", "buildah", "mmdebstrap") if shutil.which(name) is None]
    assert not missing, f"install these Debian packages first: {' '.join(missing)}"
    folder = tools.cache_folder() / "compose"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "containers.conf").write_text(CONTAINERS_CONF)
    (folder / "storage.conf").write_text(STORAGE_CONF.format(folder=folder))
    buildah = Buildah(folder, print)
    asyncio.run(buildah.ensure_base())
    kubernetes_port, emulator_port = free_ports(2)
    engine = Engine(
        folder,
        os.environ
        | {
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
            "BASE_IMAGE": f"localhost/local/debian:{buildah.base_key}",
            "HELM_IMAGE": PROGRAMS_IMAGE,
            "SPEED": "100",
            "KUBERNETES_PORT": str(kubernetes_port),
            "EMULATOR_PORT": str(emulator_port),
        },
    )
    name_public_images(engine)
    build_own_images(engine)
    yield engine
    engine.compose("down", "--volumes", "--timeout", "3")
    shutil.rmtree(REPOSITORY / ".sandbox" / "compose")
    for kind in ("ps --all --quiet", "volume ls --quiet"):
        assert engine.run("podman", *kind.split()) == ""


def name_public_images(engine: Engine) -> None:
    bin_folder = tools.binaries()
    with tempfile.TemporaryDirectory(dir=engine.folder) as context:
        programs = Path(context) / "bin"
        programs.mkdir()
        shutil.copy(bin_folder / "kube", programs / "kube")
        for program in tools.PROGRAMS:
            (programs / program).symlink_to("kube")
        (Path(context) / "Dockerfile").write_text("FROM scratch\nCOPY bin/ /usr/local/bin/\n")
        build = ("buildah", "build", "--layers", "--isolation=chroot")
        engine.run(*build, f"--tag={PROGRAMS_IMAGE}", context)
    for name in PUBLIC:
        engine.run("buildah", "tag", PROGRAMS_IMAGE, name)


def build_own_images(engine: Engine) -> None:
    """Builds what the compose file builds, lending the build this host's trust and caches."""
    arguments = ["--isolation=chroot", f"--volume={uv_cache()}:/root/.cache/uv"]
    if bundle := certificate_bundle():
        inside = "/run/host-ca.crt"
        (engine.folder / "pip.conf").write_text(f"[global]\ncert = {inside}\n")
        arguments.append(f"--volume={bundle}:{inside}:ro")
        arguments.append(f"--volume={engine.folder / 'pip.conf'}:/etc/pip.conf:ro")
        engine.environment["BUILD_SSL_CERT_FILE"] = inside
    engine.compose(f"--podman-build-args={' '.join(arguments)}", "build", seconds=900)


def test_compose_serves_a_workspace_to_kubectl_on_the_host(engine: Engine) -> None:
    engine.up()
    kubectl = str(tools.binaries() / "kubectl")
    login = f"--kubeconfig={REPOSITORY / '.sandbox' / 'compose' / 'kubeconfig'}"
    example = "examples/inference/kaito_workspace_phi_3.yaml"
    try:
        apply_when_the_webhook_answers(engine, kubectl, login, example)
        ready = ("--for=condition=WorkspaceReady", "workspace", "--all", "--timeout=90s")
        engine.run(kubectl, login, "wait", *ready)
        nodes = json.loads(engine.run(kubectl, login, "get", "nodes", "-o", "json"))["items"]
        assert [node["status"]["allocatable"]["nvidia.com/gpu"] for node in nodes] == ["1"]
        engine.run(kubectl, login, "delete", "-f", example, "--timeout=60s")
        assert "No resources" in told(engine, kubectl, login, "get", "machines")
    except AssertionError:
        for name in ("gpu-provisioner", "workspace-controller", "aks-emulator"):
            print(name, engine.compose("logs", name)[-3000:])
        raise


def apply_when_the_webhook_answers(engine: Engine, kubectl: str, login: str, example: str) -> None:
    """The controller starts last; until it serves, the API server refuses Workspaces."""
    script = f"until {kubectl} {login} apply -f {example}; do sleep 0.5; done"
    engine.run("sh", "-c", script, seconds=60)


def told(engine: Engine, *command: str) -> str:
    return engine.run("sh", "-c", " ".join(command) + " 2>&1")
