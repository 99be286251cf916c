"""Turns a container of a pod into the command line of a local process, or says why it can't.

Invariant: pure; only our own images are known, and what can't be done faithfully is refused with a
sentence that says what this driver can do, never done by halves.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from sandbox.nodes.process.views import Container, EnvVar, Pod, Probe

KNOWN_IMAGE: Final = "kaito-base"
MODULES: Final = "runtimes."
PYTHON: Final = ("python", "python3")
TERMINATION_LOG: Final = "/dev/termination-log"


@dataclass(frozen=True)
class Refusal:
    """Why a container can't run here.

    Attributes:
        reason: as a kubelet would put it into the container's waiting state.
        message: what is wrong, and what this driver can run.
    """

    reason: str
    message: str


@dataclass(frozen=True)
class Launch:
    """A process to start."""

    argv: tuple[str, ...]
    env: Mapping[str, str]


@dataclass(frozen=True)
class Place:
    """Where a pod runs on this machine.

    Attributes:
        python: the interpreter that stands for the image.
        address: the pod's own loopback address.
        node_address: its node's.
        folders: the folder of each volume, by name.
        termination_log: the file that gets a container's last words.
    """

    python: Path
    address: str
    node_address: str
    folders: Mapping[str, Path]
    termination_log: Path


def refusal(pod: Pod, container: Container, python: Path) -> Refusal | None:
    """Returns why this container can't run here, or None."""
    name = PurePosixPath(container.image.split("@")[0]).name.split(":")[0]
    if name != KNOWN_IMAGE:
        return Refusal(
            "ImagePullBackOff",
            f'Back-off pulling image "{container.image}": the process driver has no images; it runs'
            f" {KNOWN_IMAGE} alone, from the model runtime of this repository."
            " Use the kubelet driver (level 2) for others.",
        )
    if len(container.command) < 3 or container.command[0] not in PYTHON:
        return _unsupported(container, "command", "python3 -m runtimes.…")
    if container.command[1] != "-m" or not container.command[2].startswith(MODULES):
        return _unsupported(container, "command", "python3 -m runtimes.…")
    if not python.exists():
        return Refusal(
            "CreateContainerError",
            f"{python} does not exist: set the model runtime up (`make setup-runtimes`), or name its"
            " interpreter with --runtime-python",
        )
    return _unsupported_parts(pod, container)


def _unsupported_parts(pod: Pod, container: Container) -> Refusal | None:
    if pod.spec.init_containers:
        return _unsupported(container, "initContainers", "pods without them")
    if container.env_from:
        return _unsupported(container, "envFrom", "env with value, fieldRef or secretKeyRef")
    folders = {volume.name for volume in pod.spec.volumes if volume.empty_dir is not None}
    for mount in container.volume_mounts:
        if mount.name not in folders or mount.sub_path:
            return _unsupported(container, f"volume {mount.name}", "whole emptyDir volumes")
    for probe in probes(container):
        if probe.http_get is None and probe.tcp_socket is None:
            return _unsupported(container, "probe", "httpGet and tcpSocket probes")
    return None


def _unsupported(container: Container, what: str, supported: str) -> Refusal:
    return Refusal(
        "CreateContainerConfigError",
        f"container {container.name}: the process driver can't do its {what}; it runs {supported}."
        " Use the kubelet driver (level 2).",
    )


def probes(container: Container) -> list[Probe]:
    """Returns the container's probes."""
    found = (container.startup_probe, container.liveness_probe, container.readiness_probe)
    return [probe for probe in found if probe is not None]


def launch(
    pod: Pod,
    container: Container,
    place: Place,
    inherited: Mapping[str, str],
    secrets: Mapping[tuple[str, str], str],
) -> Launch:
    """Returns the process for a container that was not refused.

    Paths of mounts become folders of this machine wherever an argument or variable begins with
    one. `secrets` holds the values of the keys that its environment refers to.
    """
    mounts = _host_paths(container, place)
    words = [*container.command[1:], *container.args]
    argv = (str(place.python), *(_rewritten_argument(word, mounts) for word in words))
    declared = {
        variable.name: _rewritten(_value(variable, pod, place, secrets), mounts)
        for variable in container.env
        if not _absent(variable, secrets)
    }
    return Launch(
        argv,
        {
            **inherited,
            **declared,
            "HOSTNAME": pod.metadata.name,
            "TMPDIR": mounts.get("/tmp", str(place.termination_log.parent)),  # noqa: S108
            # The runtime listens on all addresses by default, where pods would meet.
            "RUNTIME_HOST": place.address,
            "RUNTIME_TERMINATION_LOG": str(place.termination_log),
            "PYTHONUNBUFFERED": "1",
        },
    )


def secret_keys(container: Container) -> list[tuple[str, str, bool]]:
    """Returns the Secret, the key and whether it may be absent, for each that is referred to."""
    references = (variable.value_from for variable in container.env)
    return [
        (source.secret_key_ref.name, source.secret_key_ref.key, source.secret_key_ref.optional)
        for source in references
        if source is not None and source.secret_key_ref is not None
    ]


def _host_paths(container: Container, place: Place) -> dict[str, str]:
    """Returns the folder of this machine for each path of the container, longest path first."""
    paths = {
        mount.mount_path.rstrip("/"): str(place.folders[mount.name])
        for mount in container.volume_mounts
    }
    paths[TERMINATION_LOG] = str(place.termination_log)
    return dict(sorted(paths.items(), key=lambda item: -len(item[0])))


def _rewritten_argument(word: str, mounts: Mapping[str, str]) -> str:
    flag, equals, value = word.partition("=")
    if word.startswith("-") and equals:
        return f"{flag}={_rewritten(value, mounts)}"
    return _rewritten(word, mounts)


def _rewritten(value: str, mounts: Mapping[str, str]) -> str:
    for path, folder in mounts.items():
        if value == path or value.startswith(f"{path}/"):
            return folder + value.removeprefix(path)
    return value


def _absent(variable: EnvVar, secrets: Mapping[tuple[str, str], str]) -> bool:
    reference = variable.value_from.secret_key_ref if variable.value_from else None
    return reference is not None and (reference.name, reference.key) not in secrets


def _value(variable: EnvVar, pod: Pod, place: Place, secrets: Mapping[tuple[str, str], str]) -> str:
    source = variable.value_from
    if source is None:
        return variable.value
    if source.secret_key_ref is not None:
        return secrets[source.secret_key_ref.name, source.secret_key_ref.key]
    fields = {
        "metadata.name": pod.metadata.name,
        "metadata.namespace": pod.metadata.namespace,
        "metadata.uid": pod.metadata.uid,
        "spec.nodeName": pod.spec.node_name,
        "status.podIP": place.address,
        "status.podIPs": place.address,
        "status.hostIP": place.node_address,
    }
    return fields.get(source.field_ref.field_path if source.field_ref else "", "")


def named_port(container: Container, port: int | str) -> int:
    """Returns the number of a port that a probe gives by number or name; 0 when it has none."""
    if isinstance(port, int):
        return port
    return _number_of(port, ((item.name, item.container_port) for item in container.ports))


def _number_of(name: str, ports: Iterable[tuple[str, int]]) -> int:
    if name.isdigit():
        return int(name)
    return next((number for known, number in ports if known == name), 0)
