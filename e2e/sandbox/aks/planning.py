"""Turns settings and faults into the records of new VMs and the ends of new operations.

Invariant: what will happen to a VM or an operation is decided here, once, when its request is
accepted; changing settings or clearing faults later does not change it.
"""

import secrets
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sandbox.aks.errors import ArmError
from sandbox.aks.faults import Fault
from sandbox.aks.records import Instance, Moment, Pool
from sandbox.aks.settings import Cluster, Settings

_DIGITS: Final = string.digits + string.ascii_lowercase


@dataclass(frozen=True)
class End:
    """How an operation is going to end.

    Attributes:
        seconds: emulated seconds until then, VMs aside.
        failure: the error that it ends with, if it does.
        keeps_vms: whether the VMs of a failed operation stay, without Nodes.
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
    pool: Pool,
    zone: str | None,
    settings: Settings,
    now: Moment,
    faults: Sequence[Fault],
    *,
    fails: bool,
) -> Instance:
    """Appends a VM to the pool and returns it; one of a failing operation never joins."""
    effects = {fault.effect for fault in faults}
    late = sum(fault.seconds for fault in faults if fault.effect == "late-node")
    seconds = settings.timings.join * slowdown(faults) + late
    joins = not fails and not effects & {"never-join", "fail"}
    vm = Instance(
        pool=pool.name,
        index=pool.next_index,
        node=f"{pool.scale_set}{_base36(pool.next_index)}",
        zone=zone,
        join_at=now + settings.scaled(seconds) if joins else None,
        hides_gpu="no-gpu" in effects,
    )
    pool.next_index += 1
    pool.instances.append(vm)
    return vm


def planned_end(
    cluster: Cluster, pool: Pool, seconds: float, failure: ArmError | None, faults: Sequence[Fault]
) -> End:
    """Returns the end of an operation that would take `seconds` by itself."""
    seconds *= slowdown(faults)
    for fault in faults:
        if fault.effect == "fail":
            failure = fault.answer(
                pool=pool.name,
                sku=pool.vm_size,
                region=cluster.location,
                cluster=cluster.name,
                subscription=cluster.subscription,
            )
            seconds = fault.seconds or seconds
            break
    if failure is None:
        return End(seconds)
    return End(seconds, failure.body, failure.vms)


def slowdown(faults: Iterable[Fault]) -> float:
    """Returns by how much the faults stretch an operation."""
    factor = 1.0
    for fault in faults:
        if fault.effect == "slow":
            factor *= fault.factor
    return factor


def _base36(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return digits.rjust(6, "0")
