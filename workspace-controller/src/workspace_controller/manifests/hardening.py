"""The restricted Pod Security standard, as pods and containers of the runtime meet it.

Invariant: no root, no capabilities, a read-only root filesystem.
"""

from typing import Any, Final

USER: Final = 1000


def pod_security() -> dict[str, Any]:
    """The securityContext of a pod."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> dict[str, Any]:
    """The securityContext of each of its containers."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
