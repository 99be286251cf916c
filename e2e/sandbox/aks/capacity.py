"""Where Azure puts new VMs, and how many of them it has.

Invariant: pure; a VM takes its place from the accepted PUT until it is gone, and none is promised
beyond what a shortage leaves.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from sandbox.aks.errors import ArmError, known_error
from sandbox.aks.records import Pool
from sandbox.aks.settings import Settings
from sandbox.aks.skus import Sku


@dataclass(frozen=True)
class Placement:
    """What comes of a request for VMs.

    Attributes:
        zones: one entry for each VM that is delivered; None is a VM outside the zones.
        shortage: what the operation fails with, if some are not delivered.
    """

    zones: tuple[str | None, ...]
    shortage: ArmError | None = None


@dataclass
class _Room:
    """How many VMs are left in some zones, or for None in the whole region."""

    zones: frozenset[str] | None
    left: int

    def concerns(self, zone: str | None) -> bool:
        return self.zones is None or zone in self.zones


def place(
    settings: Settings,
    pools: Iterable[Pool],
    sku: Sku,
    zones: Sequence[str],
    count: int,
    *,
    into: Pool | None,
    spot: bool,
) -> Placement:
    """Chooses the zones of `count` VMs to be added `into` a pool; None is one to be made.

    VMs go where the pool has the fewest. Without wanted zones they are outside the zones, and only
    a shortage of the whole region stops them.
    """
    rooms = _rooms(settings, list(pools), sku)
    present = Counter(vm.zone for vm in into.instances) if into else Counter[str | None]()
    chosen: list[str | None] = []
    wanted: Sequence[str | None] = zones or (None,)
    for _ in range(count):
        open_zones = [zone for zone in wanted if _has_room(rooms, zone)]
        if not open_zones:
            break
        zone = min(open_zones, key=lambda zone: present[zone])
        present[zone] += 1
        for room in rooms:
            room.left -= room.concerns(zone)
        chosen.append(zone)
    if len(chosen) == count:
        return Placement(tuple(chosen))
    regional = any(room.zones is None and room.left <= 0 for room in rooms)
    name = "capacity-spot" if spot else "capacity-regional" if regional else "capacity-zonal"
    # Those that were delivered stay, and join.
    return Placement(tuple(chosen), replace(known_error(name), vms=bool(chosen)))


def _rooms(settings: Settings, pools: Sequence[Pool], sku: Sku) -> list[_Room]:
    size = sku.name.lower()
    vms = [vm for pool in pools if pool.vm_size.lower() == size for vm in pool.instances]
    rooms = []
    for short in settings.sold_out:
        if short.sku.lower() == size:
            zones = frozenset(short.zones) or None
            taken = sum(zones is None or vm.zone in zones for vm in vms)
            rooms.append(_Room(zones, short.beyond - taken))
    return rooms


def _has_room(rooms: Iterable[_Room], zone: str | None) -> bool:
    return all(room.left > 0 for room in rooms if room.concerns(zone))
