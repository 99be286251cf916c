"""Hands out pod subnets to VMs, one each, safely between processes.

A claim is a symbolic link from the number to the VM's name: making one is atomic, and a number that
somebody has can't be claimed again, even by a process that knows nothing of the other.
"""

from pathlib import Path

from sandbox.errors import SandboxError

SUBNETS = 256


def claim(folder: Path, name: str) -> int:
    """Returns the subnet number of the VM `name`, the smallest free one if it has none.

    Raises:
        SandboxError: all are taken.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (held := _held(folder, name)) is not None:
        return held
    for number in range(SUBNETS):
        try:
            (folder / str(number)).symlink_to(name)
        except FileExistsError:
            continue
        return number
    raise SandboxError(f"all {SUBNETS} pod subnets are in use; delete some nodes")


def release(folder: Path, name: str) -> None:
    """Gives the VM's number back, if it has one."""
    if (held := _held(folder, name)) is not None:
        (folder / str(held)).unlink()


def _held(folder: Path, name: str) -> int | None:
    for link in folder.glob("*"):
        if str(link.readlink()) == name:
            return int(link.name)
    return None
