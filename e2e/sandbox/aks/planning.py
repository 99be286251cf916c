"""Turns settings and faults into the records of new VMs and the ends of new operations.

Invariant: what will happen to a VM or an operation is decided here, once, when its request is
accepted; changing settings or clearing faults later does not change it.
"""

import secrets
import string
from dataclasses import dataclass
from typing import Any, Final

from sandbox.aks.errors import ArmError
from sandbox.aks.records import Instance, Moment, Pool
from sandbox.aks.settings import Settings
from sandbox.aks.trouble import Trouble

_DIGITS: Final = string.digits + string.ascii_lowercase
_CHANCE: Final = secrets.SystemRandom()


@dataclass(frozen=True)
class End:
    """How an operation is going to end.

    Attributes:
        seconds: emulated seconds until then, VMs aside.
        failure: the error that it ends with, if it does.
        keeps_vms: whether those VMs of a failed operation stay that have no Node yet.
    """

    seconds: float
    failure: dict[str, Any] | None = None
    keeps_vms: bool = False


def new_pool(name: str, properties: dict[str, Any], now: Moment) -> Pool:
    """Returns a pool without VMs; the number in its scale set's name is random, as at Azure."""
    return Pool(
        name=name, number=f"{secrets.randbelow(10**8):08}", properties=properties, created=now
    )


def add_vm(
    pool: Pool, zone: str | None, settings: Settings, now: Moment, trouble: Trouble, *, first: bool
) -> Instance:
    """Appends a VM to the pool and returns it.

    The first one of an operation joins after exactly the time that the settings say.
    """
    seconds = settings.timings.join * trouble.slowdown + trouble.late
    if not first:
        seconds += _CHANCE.uniform(0, settings.timings.join_spread)
    joins = not trouble.effects & {"never-join", "fail"}
    vm = Instance(
        pool=pool.name,
        index=pool.next_index,
        node=f"{pool.scale_set}{_base36(pool.next_index)}",
        zone=zone,
        join_at=now + settings.scaled(seconds) if joins else None,
        hides_gpu="no-gpu" in trouble.effects,
    )
    pool.next_index += 1
    pool.instances.append(vm)
    return vm


def planned_end(seconds: float, failure: ArmError | None, trouble: Trouble) -> End:
    """Returns the end of an operation that would take `seconds` by itself."""
    seconds *= trouble.slowdown
    if trouble.failure is not None:
        failure, seconds = trouble.failure, trouble.fails_after or seconds
    if failure is None:
        return End(seconds)
    return End(seconds, failure.body, failure.vms)


def _base36(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return digits.rjust(6, "0")
