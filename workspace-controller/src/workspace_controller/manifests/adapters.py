"""Fine-tuned adapters beside a preset: where they come from, and how they reach the server.

Invariant: an adapter is on disk before the server starts, each in a folder of its own name; what
fetches it never holds the model's secrets, and the server never holds the registry's.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from gpuapis.workspace import AdapterSpec
from workspace_controller.manifests.secret_files import pull_secret_file, pull_secret_mounts

FOLDER: Final = "/mnt/adapter"
VOLUME: Final = "adapters"
PULLER: Final = "puller-"
FULL_STRENGTH: Final = "1.0"


@dataclass(frozen=True)
class Adapter:
    """One adapter, from an image or a volume."""

    name: str
    strength: str = FULL_STRENGTH
    image: str = ""
    """"" for a volume, and where a tuning Workspace has yet to make it."""
    pull_secrets: tuple[str, ...] = ()
    volume: dict[str, Any] | None = None


def adapter(spec: AdapterSpec) -> Adapter:
    """The adapter of a spec that keeps the rules."""
    assert spec.source is not None
    return Adapter(
        name=spec.source.name or "",
        strength=spec.strength or FULL_STRENGTH,
        image=spec.source.image or "",
        pull_secrets=spec.source.image_pull_secrets,
        volume=spec.source.volume_source,
    )


def server_arguments(adapters: Iterable[Adapter]) -> list[str]:
    """What tells the server of its adapters; empty without any."""
    named = [f"--adapter={each.name}={each.strength}" for each in adapters]
    return [f"--adapters_dir={FOLDER}", *named] if named else []


def mounts(adapters: Iterable[Adapter]) -> list[dict[str, Any]]:
    """Where the server finds them; empty without any."""
    given = [
        {"name": _volume_name(each), "mountPath": f"{FOLDER}/{each.name}", "readOnly": True}
        for each in adapters
        if each.volume is not None
    ]
    return [_FOLDER_MOUNT, *given] if tuple(adapters) else []


def volumes(adapters: Iterable[Adapter]) -> list[dict[str, Any]]:
    """The folder for all, and the volumes that hold some."""
    given = [
        {"name": _volume_name(each), **each.volume} for each in adapters if each.volume is not None
    ]
    return [{"name": VOLUME, "emptyDir": {}}, *given] if tuple(adapters) else []


def pull_secrets(adapters: Iterable[Adapter]) -> tuple[str, ...]:
    """The Secrets of all adapters' registries, once each."""
    return tuple(sorted({secret for each in adapters for secret in each.pull_secrets}))


def pullers(
    adapters: tuple[Adapter, ...], shell: dict[str, Any], insecure_registries: Iterable[str]
) -> list[dict[str, Any]]:
    """The init containers that fetch adapters from images.

    Args:
        adapters: all adapters; those on volumes need no fetching.
        shell: image, environment and security of a runtime container.
        insecure_registries: those to speak plain HTTP with.
    """
    secrets = pull_secrets(adapters)
    return [
        {
            "name": f"{PULLER}{each.name}",
            **shell,
            "command": [
                *("python3", "-m", "runtimes.oci", "pull", each.image, f"{FOLDER}/{each.name}"),
                *(f"--docker-config={pull_secret_file(name)}" for name in each.pull_secrets),
                *(f"--insecure-registry={host}" for host in insecure_registries),
            ],
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": [
                _FOLDER_MOUNT,
                *pull_secret_mounts(each.pull_secrets, secrets),
                {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108  (the pod's own, an emptyDir)
            ],
        }
        for each in adapters
        if each.image
    ]


_FOLDER_MOUNT: Final = {"name": VOLUME, "mountPath": FOLDER}


def _volume_name(each: Adapter) -> str:
    return f"adapter-{each.name}"
