"""Decides where a running operation stands.

Invariant: pure and total; the same operation, pool and moment give the same answer, so it does not
matter how often it is asked or whether the emulator was restarted in between.
"""

from dataclasses import dataclass
from typing import Literal

from sandbox.aks.records import Instance, Moment, Operation, Pool


@dataclass(frozen=True)
class Ended:
    """The operation is over."""

    status: Literal["Succeeded", "Failed"]


@dataclass(frozen=True)
class Replace:
    """The new VMs of an upgrade are Ready: the old ones may go."""


@dataclass(frozen=True)
class Wait:
    """Nothing to do before `seconds` have passed (None: before something changes)."""

    seconds: float | None


def progress(operation: Operation, pool: Pool, now: Moment) -> Ended | Replace | Wait:
    """Returns the next step of an operation that runs."""
    if operation.stuck or operation.held:
        return Wait(None)
    if now < operation.ends_at:
        return Wait(operation.ends_at - now)
    if operation.failure is not None:
        return Ended("Failed")
    if operation.waits:
        concerned = frozenset(operation.instances)
        pending = [vm for vm in pool.instances if vm.index in concerned and not _settled(vm, now)]
        if pending:
            known = [vm.ready_at - now for vm in pending if vm.ready_at and not vm.leaving]
            return Wait(min(known, default=None))
    return Replace() if operation.replaces else Ended("Succeeded")


def _settled(vm: Instance, now: Moment) -> bool:
    if vm.leaving:
        return False  # it is settled once it is gone from the pool
    return vm.join_at is None or (vm.ready_at is not None and vm.ready_at <= now)
