"""Secrets of a model's pod, always as files: an environment is seen by too many.

Invariant: a container sees the Secrets that it needs and no others.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

FOLDER: Final = "/mnt/secrets"
HUB_FOLDER: Final = f"{FOLDER}/hub"
HUB_KEY: Final = "HF_TOKEN"
HUB_FILE: Final = f"{HUB_FOLDER}/{HUB_KEY}"
HUB_VOLUME: Final = "hub-token"
DOCKER_KEY: Final = ".dockerconfigjson"


def hub_token_volume(secret: str) -> dict[str, Any]:
    """The token of the model hub, from a Secret with the key HF_TOKEN."""
    item = {"key": HUB_KEY, "path": HUB_KEY}
    return {"name": HUB_VOLUME, "secret": {"secretName": secret, "items": [item]}}


def hub_token_mount() -> dict[str, Any]:
    """Where a container finds that token: at HUB_FILE."""
    return {"name": HUB_VOLUME, "mountPath": HUB_FOLDER, "readOnly": True}


def pull_secret_file(secret: str) -> str:
    """Where a container finds the credentials of a registry."""
    return f"{FOLDER}/{secret}/config.json"


def pull_secret_volumes(secrets: Sequence[str]) -> list[dict[str, Any]]:
    """Volumes of Secrets of the type kubernetes.io/dockerconfigjson.

    A Secret's name may be too long for a volume's, so volumes are numbered.
    """
    item = {"key": DOCKER_KEY, "path": "config.json"}
    return [
        {"name": f"pull-secret-{number}", "secret": {"secretName": name, "items": [item]}}
        for number, name in enumerate(secrets)
    ]


def pull_secret_mounts(wanted: Iterable[str], secrets: Sequence[str]) -> list[dict[str, Any]]:
    """The mounts of some of the `secrets` that `pull_secret_volumes` was given."""
    return [
        {
            "name": f"pull-secret-{secrets.index(name)}",
            "mountPath": f"{FOLDER}/{name}",
            "readOnly": True,
        }
        for name in wanted
    ]
