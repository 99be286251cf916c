"""Lets one sandbox at a time have this host: its pod addresses and service rules are host-wide.

The mark is a symbolic link to the sandbox's folder, which only one can make. It lies where a reboot
removes it, and one whose folder is gone or empty of level 2 binds nobody.
"""

from pathlib import Path

from sandbox.errors import SandboxError
from sandbox.nodes.kubelet.settings import Paths

MARK = Path("/run/gpu-workspaces.level2")


def former_tenant(paths: Paths, mark: Path = MARK) -> Path | None:
    """Takes the host, or returns the folder of a sandbox that vanished without a clean-up.

    After cleaning up behind that one, call it again.

    Raises:
        SandboxError: another sandbox has the host; the text says how to take it down.
    """
    paths.folder.mkdir(parents=True, exist_ok=True)
    try:
        mark.symlink_to(paths.sandbox)
    except FileExistsError:
        tenant = mark.readlink()
    else:
        return None
    if tenant == paths.sandbox:
        return None
    if Paths(tenant).folder.exists():
        raise SandboxError(
            f"another sandbox has real nodes on this host, in {tenant}; take it down first:"
            f" SANDBOX_DIR={tenant} make sandbox-down"
        )
    return tenant


def has_host(paths: Paths, mark: Path = MARK) -> bool:
    """Says whether this sandbox has the host."""
    return mark.is_symlink() and mark.readlink() == paths.sandbox


def leave(paths: Paths, mark: Path = MARK) -> None:
    """Gives the host back, if this sandbox has it."""
    if has_host(paths, mark):
        mark.unlink()
